-- expert_function_alignment: which experts hold more of a function's top neurons than chance allows?
--
-- By predictivity the paper's test. For every run of the partition's model, every expert and every function: a layer's
-- neurons that are in the partition are the population; n_neurons of them are the expert's; the function's top neurons
-- (top_neurons) are drawn from it, and n_top of these are the expert's. Top neurons outside the partition do not count.
-- The q value is Benjamini and Hochberg's. Layers that lack neurons of the partition have no rows (partitions_of_runs).
--
-- Ranked
-- Grain: run_id, partition_id, stack, layer, expert, family, function
-- Source: partitions_of_runs, top_neuron_experts, control_counts
-- Columns:
--   run_id, model, revision, step, partition_id, partition_revision, method, partition_half, n_experts
--   stack, layer, expert, family, function
--   n_neurons: neurons of the expert
--   n_top: the function's top neurons among them
--   n_expected: their mean if neurons were assigned to experts at random
--   enrichment: n_top / n_expected, NULL if none is expected
--   control_enrichment: mean over draws of what it is with labels permuted, of the control with most; NULL without any
--   selectivity: enrichment - control_enrichment
--   p_value: hypergeometric P(X >= n_top)
--   q_value: p_value adjusted for all experts, layers and functions of the run and partition
--   is_functional: whether p_value is at most .001, the paper's level
--   is_significant: whether q_value is at most .05
with counts_of_experts as (
    select
        * exclude (neuron),
        count(*) as n_top,
    from top_neuron_experts_by(ranking)
    group by all
),

-- expert is NULL of top neurons outside the partition.
counts_of_functions as (
    select
        * exclude (expert, n_top),
        map(
            list(expert) filter (where expert is not null),
            list(n_top) filter (where expert is not null)
        ) as n_top_of_experts,
        coalesce(sum(n_top) filter (where expert is not null), 0)::bigint as n_drawn,
    from counts_of_experts
    group by all
),

-- Each run's functions meet every expert of its layers, those with nothing to show too. No CTE is read twice, so that
-- a filter on a run or a partition reaches the files.
crossed as (
    select
        counts_of_functions.*,
        layers.partition_revision,
        layers.method,
        layers.partition_half,
        layers.n_experts,
        layers.n_covered,
        controls.n_top_of_experts as control_of_experts,
        unnest(layers.experts, recursive := true),
    from counts_of_functions
    inner join partitions_of_runs as layers using (run_id, model, partition_id, stack, layer)
    left join control_counts_by(ranking) as controls using (run_id, model, partition_id, stack, layer, family, function)
),

counted as (
    select
        *,
        coalesce(n_top_of_experts[expert], 0) as n_top,
        n_neurons * n_drawn / n_covered as n_expected,
        if(control_of_experts is not null, coalesce(control_of_experts[expert], 0), null) as n_control,
    from crossed
),

tested as (
    select
        *,
        hypergeometric_tail(n_top, n_neurons, n_drawn, n_covered) as p_value,
    from counted
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
    family,
    function,
    n_neurons,
    n_top,
    n_expected,
    n_top / nullif(n_expected, 0) as enrichment,
    n_control / nullif(n_expected, 0) as control_enrichment,
    (n_top - n_control) / nullif(n_expected, 0) as selectivity,
    p_value,
    q_value,
    p_value <= 0.001 as is_functional,
    q_value <= 0.05 as is_significant,
from benjamini_hochberg(
    'tested', p_value, run_id, model, revision, step, partition_id, partition_revision, method, partition_half
)
