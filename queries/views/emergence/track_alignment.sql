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
-- Source: expert_tracks, experts, top_neurons
-- Columns:
--   emergence_id, run_id, model, revision, step, role, seed, partition_id, stack, layer, expert, track, family
--   function, n_neurons
--   n_top: the function's top neurons among them, at least 1
--   n_expected: their mean if neurons were assigned to experts at random
--   enrichment: n_top / n_expected
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

counts as (
    select
        tracks.*,
        tops.family,
        tops.function,
        count(*) as n_top,
    from tracks
    inner join experts
        on experts.partition_id = tracks.partition_id
        and experts.stack = tracks.stack
        and experts.layer = tracks.layer
        and experts.expert = tracks.expert
    inner join top_neurons_by(ranking) as tops
        on tops.run_id = tracks.run_id
        and tops.model = tracks.model
        and tops.stack = tracks.stack
        and tops.layer = tracks.layer
        and tops.neuron = experts.neuron
    group by all
),

counted as (
    select
        *,
        sum(n_top) over (
            partition by
                emergence_id, run_id, model, revision, step, role, seed, partition_id, stack, layer, family, function
        )::bigint as n_drawn,
    from counts
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
    hypergeometric_tail(n_top, n_neurons, n_drawn, n_covered) as p_value,
    p_value <= 0.001 as is_functional,
from counted
