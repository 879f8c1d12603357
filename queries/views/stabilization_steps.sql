-- stabilization_steps: from which training step on are neurons, experts and random groups stable?
--
-- Where each curve of stability_curves reaches a threshold from below, by linear interpolation, in steps, between the
-- checkpoints on either side. first_step is the first crossing; lasting_step is the last, after which the curve is
-- never below again. With checkpoints that are log-spaced the first ones lie so close together that the weights have
-- hardly moved between them: the curve of reference previous starts near 1, first_step is the first checkpoint
-- (is_censored) and says nothing, so read lasting_step. At a checkpoint where a curve has no value (too much noise to
-- correct for), it has no point. Pairs of checkpoints with the same weights are left out.
--
-- Grain: last_run_id, reference, partition_id, level, stack, family, is_corrected, threshold
-- Source: stability_curves
-- Columns:
--   last_run_id: the series, by the run of its last step
--   run_id: the same run, so that runs may be joined as elsewhere
--   model: hub id or folder name, as given
--   revision: revision of the last checkpoint compared
--   step: its training step
--   corpus: the labelled corpus
--   reference: previous (the step before in the series) or last
--   partition_id: the partition whose layers are averaged, * for all layers
--   partition_step: training step of the revision it partitions, NULL when unknown and of *
--   level: neuron; expert; or random_group: an expert of a partition of method random or matched
--   method: how it was made, NULL of neurons
--   stack: encoder or decoder
--   family: function family
--   is_corrected: whether the curve is corrected_correlation, or correlation
--   threshold: .5, .6, .7, .8, .9 or .95
--   n_checkpoints: checkpoints at which the curve has a value
--   first_step: training step at which it first reaches the threshold; NULL if it never does
--   is_censored: whether first_step is the first checkpoint, so that it may have been reached before
--   lasting_step: training step from which on it stays there; NULL if it ends below the threshold
--   is_lasting_censored: whether lasting_step is the first checkpoint, likewise
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
        max({'step': step, 'revision': revision}) as checkpoint,
        list({'step': step, 'plain': correlation, 'corrected': corrected_correlation} order by step) as points,
    from stability_curves
    where not has_same_weights
    group by all
),

of_values as (
    select
        * exclude (points),
        unnest(
            [
                {
                    'is_corrected': false,
                    'points': list_transform(points, lambda point: {'step': point.step, 'value': point.plain})
                },
                {
                    'is_corrected': true,
                    'points': list_filter(
                        list_transform(points, lambda point: {'step': point.step, 'value': point.corrected}),
                        lambda point: point.value is not null
                    )
                }
            ],
            max_depth := 2
        ),
    from curves
),

of_thresholds as (
    select
        *,
        unnest([0.5, 0.6, 0.7, 0.8, 0.9, 0.95])::double as threshold,
    from of_values
),

-- The places, from 1, of the points that end the first crossing and the last; NULL if there is no such point.
crossings as (
    select
        *,
        list_transform(points, lambda point: point.value >= threshold) as is_reached,
        list_position(is_reached, true) as first_place,
        len(points) - coalesce(list_position(list_reverse(is_reached), false), len(points) + 1) + 2 as next_place,
        case when next_place <= len(points) then next_place end as lasting_place,
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
    len(points) as n_checkpoints,
    crossing_step(points, threshold, first_place) as first_step,
    coalesce(first_place = 1, false) as is_censored,
    crossing_step(points, threshold, lasting_place) as lasting_step,
    coalesce(lasting_place = 1, false) as is_lasting_censored,
from crossings
