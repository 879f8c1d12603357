-- functional_experts: which experts specialise in a function or a family?
--
-- Those whose p value is at most .001, the paper's level; among hundreds of experts and functions some are by chance.
-- is_significant marks those that remain when the false discovery rate is held at .05.
--
-- Ranked
-- Grain: run_id, partition_id, stack, layer, expert, level, family, function
-- Source: expert_function_alignment, expert_family_alignment
-- Columns:
--   run_id, model, revision, step, partition_id, partition_revision, method, partition_half, n_experts, stack, layer
--   expert
--   level: function, or family: the top lists of all its functions together
--   family
--   function: sub-function within the family, * at family level
--   n_neurons
--   n_top: top neurons among them; at family level entries of the top lists
--   n_expected, enrichment
--   control_enrichment, selectivity
--   p_value: hypergeometric P(X >= n_top); at family level of distinct neurons
--   q_value: p_value adjusted for all tests of the level in the run and partition
--   is_significant
with of_levels as (
    select
        *,
        'function' as level,
    from expert_function_alignment_by(ranking)
    union all by name
    select
        *,
        'family' as level,
        '*' as function,
    from expert_family_alignment_by(ranking)
)

select
    run_id,
    model,
    revision,
    step,
    partition_id,
    partition_revision,
    method,
    partition_half,
    n_experts,
    stack,
    layer,
    expert,
    level,
    family,
    function,
    n_neurons,
    n_top,
    n_expected,
    enrichment,
    control_enrichment,
    selectivity,
    p_value,
    q_value,
    is_significant,
from of_levels
where is_functional
