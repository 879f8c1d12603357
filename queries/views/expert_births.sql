-- expert_births: when does an expert become functional, and does it stay so?
--
-- Of each track of a study of emergence (an expert of the last checkpoint, followed back) and each function that it is
-- functional for at one checkpoint or more, by the paper's criterion (track_alignment). Random and matched groups are
-- listed as all others are: what is born in them is born by chance. But rows of roles cannot be compared by number:
-- groups that are the same throughout have nearly one look, partitions made anew have one at each checkpoint, so that
-- by chance alone more of theirs are ever functional. Of pairs with is_functional_at_last each has had one look.
-- Studies follow native experts alone; those stored by earlier versions followed all.
--
-- Grain: emergence_id, role, seed, stack, layer, track, family, function
-- Source: track_alignment, expert_tracks
-- Columns:
--   emergence_id: the study
--   run_id: run of the last checkpoint of its series
--   model: hub id or folder name, as given
--   revision: revision of the last checkpoint
--   step: its training step
--   role: cold, warm, native, random or matched: how the partitions were made
--   seed: seed of the partitions of this role
--   stack: encoder or decoder
--   layer: 0 at the embedding side, within its stack
--   track: index of the expert at the last checkpoint
--   family: function family
--   function: sub-function within the family
--   first_step: training step at which it is functional first
--   last_step_before: step of the checkpoint before: it became functional between the two; NULL if at the first
--   lasting_step: first step from which it is functional at every later checkpoint; NULL if it is not at the last
--   n_functional: checkpoints at which it is functional
--   n_checkpoints: checkpoints of the study
--   is_functional_at_last: whether it is functional at the last
--   first_expert: index of the expert, within the partition of first_step
with checkpoints as (
    select
        emergence_id,
        model,
        role,
        seed,
        list(distinct step order by step) as steps,
        arg_max({'run_id': run_id, 'revision': revision}, step) as last,
    from expert_tracks
    group by all
),

functional as (
    select
        emergence_id,
        model,
        role,
        seed,
        stack,
        layer,
        track,
        family,
        function,
        list(step order by step) as functional_steps,
        arg_min(expert, step) as first_expert,
    from track_alignment
    where is_functional
    group by all
),

missed as (
    select
        *,
        list_filter(steps, lambda step: not list_contains(functional_steps, step)) as missed_steps,
    from functional
    inner join checkpoints using (emergence_id, model, role, seed)
)

select
    emergence_id,
    last.run_id as run_id,
    model,
    last.revision as revision,
    steps[-1] as step,
    role,
    seed,
    stack,
    layer,
    track,
    family,
    function,
    functional_steps[1] as first_step,
    list_max(list_filter(steps, lambda step: step < functional_steps[1])) as last_step_before,
    list_min(
        list_filter(functional_steps, lambda step: step > coalesce(list_max(missed_steps), -1))
    ) as lasting_step,
    len(functional_steps) as n_functional,
    len(steps) as n_checkpoints,
    functional_steps[-1] = steps[-1] as is_functional_at_last,
    first_expert,
from missed
