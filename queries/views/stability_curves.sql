-- stability_curves: how alike are neurons, experts and random groups at two checkpoints, over all layers?
--
-- The means of checkpoint_stability over layers, family by family. Of each partition there is the curve of its experts
-- and, under the same partition_id, the curve of the neurons of the same layers; under * the curve of the neurons of
-- all. Only layers with a correlation at every level, reference and checkpoint are averaged, so that all curves of a
-- series and partition have the same layers at all steps. ceiling and corrected_correlation are made of the
-- means: a quotient of means has less noise than a mean of quotients, whose denominators may be small.
--
-- Grain: last_run_id, run_id, reference, level, partition_id, stack, family
-- Source: checkpoint_stability, partitions, experts
-- Columns:
--   last_run_id: the series, by the run of its last step
--   run_id: the measurement
--   model: hub id or folder name, as given
--   revision: revision of the model
--   step: training step of the revision
--   corpus: the labelled corpus
--   reference: previous (the step before in the series) or last
--   reference_run_id: the run it is compared to
--   reference_revision: revision of that run
--   reference_step: its training step
--   level: neuron; expert; or random_group: an expert of a partition of method random or matched
--   partition_id: the partition whose layers are averaged, * for all layers
--   partition_step: training step of the revision it partitions, NULL when unknown and of *
--   method: how it was made, NULL of neurons
--   stack: encoder or decoder
--   family: function family
--   n_layers: layers averaged
--   n_functions: functions with a correlation, the most of a layer
--   n_units: neurons or experts compared, over all layers
--   correlation: mean Spearman correlation of the units' scores at both, uncorrected
--   split_half_correlation: mean Spearman correlation of the scores on half a and on half b; NULL if none has both
--   reference_split_half_correlation: the same of the reference
--   ceiling: square root of the product of both reliabilities (Spearman-Brown); NULL unless both are above 0
--   cross_half_correlation: mean correlation of half a of one with half b of the other, both ways; NULL likewise
--   corrected_correlation: cross_half_correlation / sqrt of the product of both split halves'; NULL if ceiling < .3
--   has_same_weights: whether both have the same weights, as a mislabelled revision has: it says nothing then
with layers_of_partitions as (
    select
        partitions.model,
        partition_id,
        partitions.step as partition_step,
        experts.stack,
        experts.layer,
    from experts
    inner join partitions using (partition_id)
    group by all
),

partitions_of_layers as (
    select
        model,
        stack,
        layer,
        list({'partition_id': partition_id, 'partition_step': partition_step}) as of_layer,
    from layers_of_partitions
    group by all
),

-- Neurons and experts apart, so that a filter on a partition reaches the files and neither is computed twice.
of_layers as (
    select *
    from checkpoint_stability
    where partition_id != '*' and correlation is not null
    union all by name
    select
        neurons.* exclude (partition_id, partition_step),
        unnest(
            list_append(coalesce(of_layer, []), {'partition_id': '*', 'partition_step': null}), max_depth := 2
        ),
    from checkpoint_stability as neurons
    left join partitions_of_layers using (model, stack, layer)
    where neurons.partition_id = '*' and correlation is not null
),

-- A layer has a row a level, reference and checkpoint: as many as there are of these, or it is left out.
numbered as (
    select
        *,
        dense_rank() over (
            partition by last_run_id, model, partition_id, stack, family
            order by level, reference, step
        ) as place,
        count(*) over (
            partition by last_run_id, model, partition_id, stack, family, layer
        ) as n_of_layer,
    from of_layers
),

complete as (
    select *
    from numbered
    qualify n_of_layer = max(place) over (partition by last_run_id, model, partition_id, stack, family)
),

averaged as (
    select
        * exclude (
            layer,
            place,
            n_of_layer,
            n_functions,
            n_units,
            correlation,
            split_half_correlation,
            reference_split_half_correlation,
            ceiling,
            cross_half_correlation,
            corrected_correlation
        ),
        count(*) as n_layers,
        max(n_functions) as n_functions,
        sum(n_units)::bigint as n_units,
        avg(correlation order by layer) as correlation,
        avg(split_half_correlation order by layer) as split_half,
        avg(reference_split_half_correlation order by layer) as reference_split_half,
        avg(cross_half_correlation order by layer) as cross_half,
    from complete
    group by all
)

select
    last_run_id,
    run_id,
    model,
    revision,
    step,
    corpus,
    reference,
    reference_run_id,
    reference_revision,
    reference_step,
    level,
    partition_id,
    partition_step,
    method,
    stack,
    family,
    n_layers,
    n_functions,
    n_units,
    correlation,
    split_half as split_half_correlation,
    reference_split_half as reference_split_half_correlation,
    noise_ceiling(split_half, reference_split_half) as ceiling,
    cross_half as cross_half_correlation,
    disattenuated(cross_half, split_half, reference_split_half) as corrected_correlation,
    has_same_weights,
from averaged
