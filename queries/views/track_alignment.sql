-- track_alignment: over a study of emergence, which experts hold top neurons of which function, and is it by chance?
--
-- The test of expert_function_alignment, of each checkpoint's own partition on the checkpoint's own run alone: that
-- view crosses every partition with every run. Native experts, random and matched groups are the same neurons
-- throughout and are tested at every checkpoint. An expert that holds none of a function's top neurons has no row: its
-- p is 1. Experts made of scores (method function) are tested on these same scores: that is circular.
-- Studies follow native experts alone; those stored by earlier versions followed all.
--
-- Grain: emergence_id, role, seed, run_id, stack, layer, expert, family, function
-- Source: expert_tracks, experts, top_neurons
-- Columns:
--   emergence_id: the study
--   run_id: run of the checkpoint in the series
--   model: hub id or folder name, as given
--   revision: revision of the model
--   step: training step of the revision
--   role: cold, warm, native, random or matched: how the partition was made
--   seed: seed of the partitions of this role
--   partition_id: the partition
--   stack: encoder or decoder
--   layer: 0 at the embedding side, within its stack
--   expert: index of the expert within its layer
--   track: index, at the last checkpoint, of the expert that it becomes
--   family: function family
--   function: sub-function within the family
--   n_neurons: neurons of the expert
--   n_top: the function's top neurons among them, at least 1
--   n_expected: their mean if neurons were dealt to experts at random
--   enrichment: n_top / n_expected
--   p_value: hypergeometric P(X >= n_top)
--   is_functional: whether p_value is at most .001, the paper's criterion
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

found as (
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
    inner join top_neurons as tops
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
    from found
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
