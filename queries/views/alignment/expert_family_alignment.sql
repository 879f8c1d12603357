-- expert_family_alignment: which experts hold more of the top neurons of a whole family than chance allows?
--
-- The top lists of the family's functions are pooled. A neuron may be in several lists: the test counts it once, and is
-- exact however the lists overlap. Beside it stands the paper's binomial test, which takes the entries of all lists for
-- independent draws and so finds too many experts. Layers that lack neurons of the partition have no rows
-- (partitions_of_runs).
--
-- Ranked
-- Grain: run_id, partition_id, stack, layer, expert, family
-- Source: partitions_of_runs, top_neuron_experts, control_counts
-- Columns:
--   run_id, model, revision, step, partition_id, partition_revision, method, partition_half, n_experts
--   stack, layer, expert, family
--   n_neurons: neurons of the expert
--   n_top: entries of the family's top lists among them, a neuron as often as it is listed
--   n_expected: their mean if neurons were assigned to experts at random
--   enrichment: n_top / n_expected, NULL if none is expected
--   control_enrichment: mean over draws of what it is with labels permuted, of the control with most; NULL without any
--   selectivity: enrichment - control_enrichment
--   n_distinct: distinct neurons among those entries
--   p_value: hypergeometric P(X >= n_distinct), of the distinct neurons in the family's lists
--   p_binomial: the paper's: P(X >= n_top), each entry in the expert with probability n_neurons / covered neurons
--   q_value: p_value adjusted for all experts, layers and families of the run and partition
--   is_functional: whether p_value is at most .001
--   is_functional_binomial: whether p_binomial is at most .001, the paper's level
--   is_significant: whether q_value is at most .05
with entries_of_neurons as (
    select
        * exclude (function),
        count(*) as n_top,
    from top_neuron_experts_by(ranking)
    group by all
),

-- Twice grouped: DuckDB's count(distinct) would hold up filters. expert is NULL of top neurons outside the partition.
counts_of_experts as (
    select
        * exclude (neuron, n_top),
        sum(n_top)::bigint as n_top,
        count(*) as n_distinct,
    from entries_of_neurons
    group by all
),

counts_of_families as (
    select
        * exclude (expert, n_top, n_distinct),
        map(
            list(expert) filter (where expert is not null),
            list({'n_top': n_top, 'n_distinct': n_distinct}) filter (where expert is not null)
        ) as counts_of_expert,
        coalesce(sum(n_top) filter (where expert is not null), 0)::bigint as n_entries,
        coalesce(sum(n_distinct) filter (where expert is not null), 0)::bigint as n_drawn,
    from counts_of_experts
    group by all
),

-- Each run's functions meet every expert of its layers, those with nothing to show too. No CTE is read twice, so that
-- a filter on a run or a partition reaches the files.
crossed as (
    select
        counts_of_families.*,
        layers.partition_revision,
        layers.method,
        layers.partition_half,
        layers.n_experts,
        layers.n_covered,
        controls.n_top_of_experts as control_of_experts,
        unnest(layers.experts, recursive := true),
    from counts_of_families
    inner join partitions_of_runs as layers using (run_id, model, partition_id, stack, layer)
    left join control_counts_by(ranking) as controls
        on controls.function = '*'
        and controls.run_id = counts_of_families.run_id
        and controls.model = counts_of_families.model
        and controls.partition_id = counts_of_families.partition_id
        and controls.stack = counts_of_families.stack
        and controls.layer = counts_of_families.layer
        and controls.family = counts_of_families.family
),

counted as (
    select
        *,
        coalesce(counts_of_expert[expert].n_top, 0) as n_top,
        coalesce(counts_of_expert[expert].n_distinct, 0) as n_distinct,
        n_neurons * n_entries / n_covered as n_expected,
        if(control_of_experts is not null, coalesce(control_of_experts[expert], 0), null) as n_control,
    from crossed
),

tested as (
    select
        *,
        hypergeometric_tail(n_distinct, n_neurons, n_drawn, n_covered) as p_value,
        binomial_tail(n_top, n_entries, n_neurons / n_covered) as p_binomial,
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
    n_neurons,
    n_top,
    n_expected,
    n_top / nullif(n_expected, 0) as enrichment,
    n_control / nullif(n_expected, 0) as control_enrichment,
    (n_top - n_control) / nullif(n_expected, 0) as selectivity,
    n_distinct,
    p_value,
    p_binomial,
    q_value,
    p_value <= 0.001 as is_functional,
    p_binomial <= 0.001 as is_functional_binomial,
    q_value <= 0.05 as is_significant,
from benjamini_hochberg(
    'tested', p_value, run_id, model, revision, step, partition_id, partition_revision, method, partition_half
)
