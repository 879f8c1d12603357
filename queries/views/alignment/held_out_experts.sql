-- held_out_experts: do the experts that are functional on one half of the instances stay so on the other half?
--
-- The tests of `neuronlake align` that are significant on half a, each with the same test on half b. Partitions made of
-- scores on half b or on all instances are excluded (partition_half of alignment_tests), so that no score on half b had
-- a part in making or choosing the experts: luck on half a does not carry over. How imported experts were made, or
-- those of a query of one's own, the store cannot know; they are assumed not to depend on half b. The q value is over
-- the chosen tests. Columns of half b are NULL where half b lacks a class of the function, so that nothing can be
-- tested on it.
--
-- Grain: alignment_id, null_model, stack, layer, expert, family, function
-- Source: alignment_tests
-- Columns:
--   alignment_id, run_id, model, revision, step, ranking, partition_id, null_model, stack, layer, expert, level
--   family, function, n_neurons
--   n_top_half_a: entries of the top lists chosen on half a that the expert holds
--   enrichment_half_a: n_top_half_a over what is expected at random
--   q_value_half_a: the q value it was chosen by
--   n_top_half_b: entries of the top lists chosen on half b that the expert holds
--   enrichment_half_b: n_top_half_b over what is expected at random
--   control_enrichment_half_b: what control functions make expect on half b, over what chance does; NULL without any
--   selectivity_half_b: n_top_half_b over what chance makes expect, less control_enrichment_half_b
--   p_value: the permutation p on half b
--   q_value: p_value after Benjamini-Hochberg, over the tests chosen of one alignment, null and level
--   is_replicated: q_value <= .05
with chosen as (
    select
        alignment_id,
        run_id,
        model,
        revision,
        step,
        ranking,
        partition_id,
        null_model,
        stack,
        layer,
        expert,
        level,
        family,
        function,
        any_value(n_neurons) as n_neurons,
        max(n_top) filter (where half = 'a') as n_top_half_a,
        max(enrichment) filter (where half = 'a') as enrichment_half_a,
        max(q_value) filter (where half = 'a') as q_value_half_a,
        max(n_top) filter (where half = 'b') as n_top_half_b,
        max(enrichment) filter (where half = 'b') as enrichment_half_b,
        max(control_enrichment) filter (where half = 'b') as control_enrichment_half_b,
        max(selectivity) filter (where half = 'b') as selectivity_half_b,
        max(p_value) filter (where half = 'b') as p_value,
    from alignment_tests
    where partition_half is null or partition_half = 'a'
    group by all
    having bool_or(is_significant) filter (where half = 'a')
)

select
    *,
    q_value <= 0.05 as is_replicated,
from benjamini_hochberg('chosen', p_value, run_id, alignment_id, partition_id, null_model, level)
