-- family_similarity: do functions of one family share top neurons more than functions of two?
--
-- Modularity shows as enrichment far above 1 where family_a = family_b, and near 1 elsewhere (by predictivity, the
-- paper's Figure 1, right).
--
-- Ranked
-- By run
-- Grain: run_id, stack, layer, family_a, family_b
-- Source: function_similarity
-- Columns:
--   run_id, model, revision, step, stack, layer
--   family_a: a family
--   family_b: the same family, or one after it by name
--   overlap: mean overlap of top neurons over pairs of distinct functions
--   n_pairs: pairs of distinct functions
--   chance: overlap of unrelated functions
--   enrichment: overlap / chance
select
    run_id,
    model,
    revision,
    step,
    stack,
    layer,
    family_a,
    family_b,
    avg(overlap) as overlap,
    count(*) as n_pairs,
    any_value(chance) as chance,
    avg(overlap) / any_value(chance) as enrichment,
from function_similarity_by(ranking)
group by run_id, model, revision, step, stack, layer, family_a, family_b
