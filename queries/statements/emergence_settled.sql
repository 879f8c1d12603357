-- emergence_settled: from which training step on do scores of neurons, experts and groups stay as at a later checkpoint?
--
-- A step that is never reached counts as infinitely late, so that medians and ranges place it after all others.
--
-- Parameters:
--   $last_run: run of the last checkpoint
--   $model: the model, as stored
--   $last_partitions: the partitions of the last checkpoint
--   $partition: the one whose layers the curve of neurons is of
--   $thresholds: correlations from which on scores count as settled
-- Columns:
--   compared_to: previous or last: the checkpoint whose scores are compared
--   is_corrected: whether correlations are corrected for noise of measurement
--   stack: encoder or decoder
--   family: function family
--   threshold: the correlation
--   neurons: step of neurons, with the band of their curve
--   experts: median step over partitions, with their range and how many reach the threshold
--   random: the same of random groups
--   matched: the same of groups matched on input norm and firing rate
--   neuron_values: checkpoints at which the curve of neurons has a value, of those compared
--   expert_values: the same of experts
--   dead_neurons: neurons left out at the checkpoint where most are dead; empty if unknown
with steps as (
    select
        *,
        case
            when level = 'neuron' then 'neurons'
            when level = 'expert' then 'experts'
            else method
        end as units,
    from stabilization_steps
    where
        last_run_id = $last_run and model = $model and threshold in $thresholds
        and partition_id in $last_partitions
        and (level != 'neuron' or partition_id = $partition)
),

grouped as (
    select
        reference, is_corrected, stack, family, threshold, units,
        list_sort(list({'step': coalesce(lasting_step, 'infinity'), 'is_censored': is_lasting_censored})
            filter (where n_checkpoints > 0)) as known,
        count(*) filter (where n_checkpoints = 0) as n_silent,
        count(lasting_step) as n_reached,
        any_value(
            if(is_lasting_censored, ' (<= ', ' (') || round(lasting_step_earliest)::bigint || ' to '
            || coalesce(round(lasting_step_latest)::bigint::varchar, 'not reached') || ')'
        ) as band,
        min(n_checkpoints)
        || case when min(n_checkpoints) < max(n_checkpoints) then ' to ' || max(n_checkpoints) else '' end
        || ' of ' || max(n_compared) as n_values,
        max(n_dead) as n_dead,
    from steps
    group by all
),

points as (
    select
        *,
        list_transform(
            [
                {
                    'step': (known[(len(known) + 1) // 2].step + known[len(known) // 2 + 1].step) / 2,
                    'is_censored':
                        known[(len(known) + 1) // 2].is_censored or known[len(known) // 2 + 1].is_censored
                },
                known[1],
                known[-1]
            ],
            lambda point: case
                when isinf(point.step) then 'not reached'
                else if(point.is_censored, '<= ', '') || round(point.step)::bigint
            end
        ) as shown,
    from grouped
),

texts as (
    select
        *,
        case
            when known is null then 'no signal' || if(units = 'neurons', '', ' (' || n_silent || ')')
            when units = 'neurons' then shown[1] || coalesce(band, '')
            else shown[1] || ' (' || if(n_reached = 0, '', shown[2] || ' to ' || shown[3] || '; ')
                || n_reached || ' of ' || len(known) || ' reach it'
                || if(n_silent = 0, '', ', ' || n_silent || ' no signal') || ')'
        end as shown_in_full,
    from points
)

select
    reference as compared_to,
    is_corrected,
    stack,
    family,
    threshold::varchar as threshold,
    any_value(shown_in_full) filter (where units = 'neurons') as neurons,
    any_value(shown_in_full) filter (where units = 'experts') as experts,
    any_value(shown_in_full) filter (where units = 'random') as random,
    any_value(shown_in_full) filter (where units = 'matched') as matched,
    any_value(n_values) filter (where units = 'neurons') as neuron_values,
    any_value(n_values) filter (where units = 'experts') as expert_values,
    any_value(n_dead) filter (where units = 'neurons') as dead_neurons,
from texts
group by all
order by reference, is_corrected, stack, family, threshold
