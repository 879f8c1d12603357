-- control_alignment: which experts hold top neurons of control functions, whose labels were permuted, and how many?
--
-- The counts and the test of expert_function_alignment, of each draw of each control of a run. Experts that hold none of
-- a function's top neurons have no row.
--
-- Ranked
-- Intermediate
-- Grain: run_id, partition_id, control, draw, stack, layer, expert, family, function
-- Source: control_top_neurons, partitions, experts, partitions_of_runs
-- Columns:
--   run_id, model, revision, step, partition_id, partition_revision, method, partition_half
--   control: what kept its labels together: instance, text, group, word or word-in-stratum
--   draw: number of the permutation
--   stack, layer, expert, family, function
--   n_neurons: neurons of the expert
--   n_top: the control function's top neurons among them
--   n_expected: their mean if neurons were assigned to experts at random
--   enrichment: n_top / n_expected
--   p_value: hypergeometric P(X >= n_top)
--   is_functional: whether p_value is at most .001
--   n_draws: draws of the control
with counts_of_experts as (
    select
        tops.run_id,
        tops.model,
        tops.revision,
        tops.step,
        partitions.partition_id,
        tops.control,
        tops.draw,
        tops.stack,
        tops.layer,
        tops.family,
        tops.function,
        experts.expert,
        count(*) as n_top,
    from control_top_neurons as tops
    inner join partitions using (model)
    left join experts
        on experts.partition_id = partitions.partition_id
        and experts.stack = tops.stack
        and experts.layer = tops.layer
        and experts.neuron = tops.neuron
    where tops.half = 'all' and tops.ranked_by = ranked(ranking, 'lift', 'predictivity')
    group by all
),

-- expert is NULL of top neurons outside the partition.
counts as (
    select
        *,
        coalesce(sum(n_top) filter (where expert is not null) over same_list, 0)::bigint as n_drawn,
        count(distinct draw) over same_function as n_draws,
    from counts_of_experts
    window
        same_list as (partition by run_id, partition_id, control, draw, stack, layer, family, function),
        same_function as (partition by run_id, partition_id, control, stack, layer, family, function)
),

counted as (
    select
        counts.*,
        layers.partition_revision,
        layers.method,
        layers.partition_half,
        layers.n_covered,
        list_filter(layers.experts, lambda of_layer: of_layer.expert = counts.expert)[1].n_neurons as n_neurons,
    from counts
    inner join partitions_of_runs as layers using (run_id, model, partition_id, stack, layer)
    where counts.expert is not null
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
    control,
    draw,
    stack,
    layer,
    expert,
    family,
    function,
    n_neurons,
    n_top,
    n_neurons * n_drawn / n_covered as n_expected,
    n_top / n_expected as enrichment,
    hypergeometric_tail(n_top, n_neurons, n_drawn, n_covered) as p_value,
    p_value <= 0.001 as is_functional,
    n_draws,
from counted
