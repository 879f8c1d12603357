-- stabilization_steps: from which training step on are neurons, experts and random groups stable?
--
-- Where the curves of stability_curves cross a threshold from below, by linear interpolation between two checkpoints,
-- in steps. first_step is the first crossing; lasting_step is the last, after which the curve stays above. Read
-- lasting_step: where checkpoints are log-spaced, the first ones are so close together that weights have hardly moved
-- between them, so the curve of reference previous starts near 1, and first_step is merely the first checkpoint
-- (is_censored). A checkpoint without a value (too much noise to correct for) counts as below: lasting_step begins
-- after it, and a crossing right after it is not interpolated. Checkpoints with a twin are excluded, as one of the two
-- may have a wrong name; if the last checkpoint has one, so are all rows of reference last. lasting_step_earliest and
-- lasting_step_latest are lasting_step of the curve raised and lowered by two standard errors: the band holds about 95%
-- of curves, not of steps, and it is wide where a curve rises slowly.
--
-- Grain: last_run_id, reference, partition_id, level, stack, family, is_corrected, threshold
-- Source: stability_curves
-- Columns:
--   last_run_id
--   run_id: the same run, so that runs may be joined as elsewhere
--   model
--   revision: revision of the last checkpoint compared
--   step: its training step
--   corpus, reference, partition_id, partition_step, level, method, stack, family
--   is_corrected: whether the curve is corrected_correlation, or correlation
--   threshold: .5, .6, .7, .8, .9 or .95
--   n_checkpoints: checkpoints at which the curve has a value
--   n_compared: all checkpoints of the curve
--   n_dead: neurons left out at the checkpoint where most are, as they are dead at either; NULL if unknown
--   first_step: training step at which it first reaches the threshold; NULL if it never does
--   is_censored: true if the checkpoint before first_step has no value or there is none, so it may have been earlier
--   lasting_step: training step from which on it stays there; NULL if it ends below the threshold or without a value
--   is_lasting_censored: true if the checkpoint before lasting_step has no value or there is none, likewise
--   lasting_step_earliest: the same of the curve raised by two errors; NULL likewise, or if a value lacks its error
--   lasting_step_latest: the same of the curve lowered by two errors, NULL likewise
with curves as (
    select
        last_run_id,
        model,
        corpus,
        reference,
        partition_id,
        partition_step,
        level,
        method,
        stack,
        family,
        is_corrected,
        max({'step': step, 'revision': revision}) as checkpoint,
        list({'step': step, 'value': value} order by step) as points,
        list({'step': step, 'value': value + 2 * error} order by step) as raised_points,
        list({'step': step, 'value': value - 2 * error} order by step) as lowered_points,
        count(value)::bigint as n_checkpoints,
        count(error)::bigint as n_errors,
        max(n_dead) as n_dead,
    from (
        select
            *,
            unnest(
                [
                    {'is_corrected': false, 'value': correlation, 'error': correlation_error},
                    {'is_corrected': true, 'value': corrected_correlation, 'error': corrected_error}
                ],
                max_depth := 2
            ),
        from stability_curves
        where not has_twin
    )
    group by all
),

of_thresholds as (
    select
        *,
        unnest([0.5, 0.6, 0.7, 0.8, 0.9, 0.95])::double as threshold,
    from curves
),

-- The places, from 1, of the points that end the first crossing and the last; NULL or one too many if there is none.
crossings as (
    select
        *,
        list_position(list_transform(points, lambda point: point.value >= threshold), true) as first_place,
        lasting_place(points, threshold) as last_place,
        if(n_errors = n_checkpoints, lasting_place(raised_points, threshold), null) as earliest_place,
        if(n_errors = n_checkpoints, lasting_place(lowered_points, threshold), null) as latest_place,
    from of_thresholds
)

select
    last_run_id,
    last_run_id as run_id,
    model,
    checkpoint.revision as revision,
    checkpoint.step as step,
    corpus,
    reference,
    partition_id,
    partition_step,
    level,
    method,
    stack,
    family,
    is_corrected,
    threshold,
    n_checkpoints,
    len(points) as n_compared,
    n_dead,
    crossing_step(points, threshold, first_place) as first_step,
    crossing_is_censored(points, first_place) as is_censored,
    crossing_step(points, threshold, last_place) as lasting_step,
    crossing_is_censored(points, last_place) as is_lasting_censored,
    crossing_step(raised_points, threshold, earliest_place) as lasting_step_earliest,
    crossing_step(lowered_points, threshold, latest_place) as lasting_step_latest,
from crossings
