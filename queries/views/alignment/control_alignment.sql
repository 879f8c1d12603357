-- control_alignment: which experts hold more top neurons of control functions than chance allows?
--
-- The test of expert_function_alignment, of each draw of each control of a run.
--
-- Ranked
-- Intermediate
-- Grain: run_id, partition_id, control, draw, stack, layer, expert, family, function
-- Source: control_neuron_experts, partitions_of_runs
-- Columns:
--   run_id, model, revision, step, partition_id, partition_revision, method, partition_half
--   control, draw, stack, layer, expert, family, function
--   n_neurons: neurons of the expert
--   n_top
--   n_expected: mean of n_top if neurons were assigned to experts at random
--   enrichment: n_top / n_expected
--   p_value: hypergeometric P(X >= n_top)
--   is_functional: whether p_value is at most .001
with counts as (
    select
        *,
        sum(n_top) over (
            partition by run_id, partition_id, control, draw, stack, layer, family, function
        )::bigint as n_drawn,
    from control_neuron_experts_by(ranking)
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
from counted
