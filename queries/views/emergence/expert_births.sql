-- expert_births: when does an expert become functional, and does it stay so?
--
-- A row a track (an expert of the last checkpoint, followed back) and function, if the expert is functional for it at
-- one checkpoint or more at the paper's level (track_alignment). Random and matched groups are listed too: what is
-- born in them is born by chance. Do not compare roles by their number of rows: groups that stay the same are in effect
-- tested once, partitions made at each checkpoint once a checkpoint, so that chance makes more of the latter functional
-- at some time. Rows with is_functional_at_last can be compared: each pair was tested once.
-- Studies follow native experts alone; those stored by earlier versions followed all.
--
-- Ranked
-- Grain: emergence_id, role, seed, stack, layer, track, family, function
-- Source: track_alignment, expert_tracks
-- Columns:
--   emergence_id
--   run_id: run of the last checkpoint of its series
--   model
--   revision: revision of the last checkpoint
--   step: its training step
--   role, seed, stack, layer, track, family, function
--   first_step: training step at which it is functional first
--   last_step_before: step of the checkpoint before: it became functional between the two; NULL if at the first
--   lasting_step: first step from which it is functional at every later checkpoint; NULL if it is not at the last
--   n_functional: checkpoints at which it is functional
--   n_checkpoints: checkpoints of the study
--   is_functional_at_last: whether it is functional at the last
--   first_expert: index of the expert, within the partition of first_step
--   enrichment: mean over checkpoints at which it is functional
--   control_enrichment: the same with labels permuted, of those that have ingest --controls; NULL without any
--   selectivity: mean over the same of the difference
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
        avg(enrichment) as enrichment,
        avg(control_enrichment) as control_enrichment,
        avg(selectivity) as selectivity,
    from track_alignment_by(ranking)
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
    enrichment,
    control_enrichment,
    selectivity,
from missed
