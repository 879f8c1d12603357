-- track_alignment: over a study of emergence, which experts hold top neurons of which function, and is it by chance?
--
-- The test of expert_function_alignment, but only of each checkpoint's own partition on the checkpoint's own run, where
-- that view crosses every partition with every run. Native experts, random and matched groups are the same neurons
-- throughout and are tested at every checkpoint. An expert without top neurons of a function has no row: its p is 1.
-- Tests of experts made of scores (method function) on these same scores are circular.
-- Studies follow native experts alone; those stored by earlier versions followed all.
--
-- Ranked
-- Grain: emergence_id, role, seed, run_id, stack, layer, expert, family, function
-- Source: expert_tracks, experts, top_neurons, control_top_neurons, control_functions
-- Columns:
--   emergence_id, run_id, model, revision, step, role, seed, partition_id, stack, layer, expert, track, family
--   function, n_neurons
--   n_top: the function's top neurons among them, at least 1
--   n_expected: their mean if neurons were assigned to experts at random
--   enrichment: n_top / n_expected
--   control_enrichment: mean over draws of what it is with labels permuted, of the control with most; NULL without any
--   selectivity: enrichment - control_enrichment
--   p_value: hypergeometric P(X >= n_top)
--   is_functional: whether p_value is at most .001, the paper's level
with tracks as (
    select
        emergence_id,
        run_id,
        model,
        revision,
        step,
        role,
        seed,
        partition_id,
        stack,
        layer,
        expert,
        track,
        n_neurons,
        sum(n_neurons) over (
            partition by emergence_id, run_id, model, revision, step, role, seed, partition_id, stack, layer
        )::bigint as n_covered,
    from expert_tracks
),

tops as (
    select run_id, model, stack, layer, neuron, family, function, null as control from top_neurons_by(ranking)
    union all
    select run_id, model, stack, layer, neuron, family, function, control from control_top_neurons
    where half = 'all' and ranked_by = ranked(ranking, 'lift', 'predictivity')
),

of_controls as (
    select
        tracks.*,
        tops.family,
        tops.function,
        tops.control,
        count(*) as n_top,
    from tracks
    inner join experts
        on experts.partition_id = tracks.partition_id
        and experts.stack = tracks.stack
        and experts.layer = tracks.layer
        and experts.expert = tracks.expert
    inner join tops
        on tops.run_id = tracks.run_id
        and tops.model = tracks.model
        and tops.stack = tracks.stack
        and tops.layer = tracks.layer
        and tops.neuron = experts.neuron
    group by all
),

draws as (
    select
        run_id,
        family,
        function,
        control,
        count(*) as n_draws,
    from control_functions
    group by all
),

counts as (
    select
        of_controls.* exclude (control, n_top),
        coalesce(sum(n_top) filter (where control is null), 0)::bigint as n_top,
        max(n_top / n_draws) as n_control,
    from of_controls
    left join draws using (run_id, family, function, control)
    group by all
),

counted as (
    select
        * exclude (n_control),
        sum(n_top) over same::bigint as n_drawn,
        if(max(n_control) over same is not null, coalesce(n_control, 0), null) as n_control,
    from counts
    window same as (
        partition by
            emergence_id, run_id, model, revision, step, role, seed, partition_id, stack, layer, family, function
    )
)

select
    emergence_id,
    run_id,
    model,
    revision,
    step,
    role,
    seed,
    partition_id,
    stack,
    layer,
    expert,
    track,
    family,
    function,
    n_neurons,
    n_top,
    n_neurons * n_drawn / n_covered as n_expected,
    n_top * n_covered / (n_neurons * n_drawn) as enrichment,
    n_control * n_covered / (n_neurons * n_drawn) as control_enrichment,
    (n_top - n_control) * n_covered / (n_neurons * n_drawn) as selectivity,
    hypergeometric_tail(n_top, n_neurons, n_drawn, n_covered) as p_value,
    p_value <= 0.001 as is_functional,
from counted
where n_top > 0
