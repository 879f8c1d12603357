-- stability_curves: how similar are neurons, experts and random groups at two checkpoints, over all layers?
--
-- The means of function_stability over cells (a layer and a function) of a family. A partition has two curves: that of
-- its experts, and, under the same partition_id, that of the neurons of the same layers; partition_id * is the curve of
-- the neurons of all layers. Only cells with a correlation at every level, reference and checkpoint are averaged, and
-- for the columns of halves only those of them that have all halves everywhere, so that all curves of a series and
-- partition average the same cells at all steps. ceiling and corrected_correlation are made of these means: a quotient
-- of means has less noise than a mean of quotients, whose denominators may be small. Errors are those of the jackknife
-- (Quenouille 1956, Tukey 1958) over functions, a function with all its layers at a time, since its layers are measured
-- on the same labels. Functions share instances, and so noise that the jackknife does not see: what it lacks is
-- estimated from how far apart the curves of halves a and b are, which share no instance, over all checkpoints of a
-- curve, and added (docs/emergence.md derives it). Errors tell nothing of other seeds of training.
--
-- Grain: last_run_id, run_id, reference, level, partition_id, stack, family
-- Source: function_stability, partitions, experts
-- Columns:
--   last_run_id, run_id, model, revision, step, corpus, reference, reference_run_id, reference_revision
--   reference_step, level
--   partition_id: the partition whose layers are averaged, * for all layers
--   partition_step: training step of the revision it partitions, NULL when unknown and of *
--   method, stack, family
--   n_layers: layers averaged
--   n_functions: functions averaged
--   n_cells: layers and functions averaged, as pairs
--   n_halved_cells: of these, averaged for the numbers of halves
--   n_units: neurons or experts compared, over all layers
--   n_dead: neurons left out, as they are dead at either, over all layers; NULL if unknown
--   correlation: mean Spearman correlation of the units' scores at both, uncorrected
--   correlation_error: its standard error; NULL for fewer than 3 functions. Of functions without halves the jackknife's
--   split_half_correlation: mean Spearman correlation of the scores on half a and on half b; NULL if no cell has all
--   reference_split_half_correlation
--   ceiling: square root of the product of both reliabilities (Spearman-Brown); NULL unless both are above 0
--   cross_half_correlation: mean correlation of half a of one with half b of the other, both ways; NULL likewise
--   corrected_correlation: cross_half_correlation / sqrt of the product of both split halves'; NULL if one is too low
--   corrected_error: its standard error; NULL likewise, and for fewer than 3 functions with halves
--   paper_correlation: mean Spearman correlation of predictivity at both, of all neurons, as in the paper
--   has_twin
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
of_cells as (
    select *
    from function_stability
    where partition_id != '*' and correlation is not null
    union all by name
    select
        neurons.* exclude (partition_id, partition_step),
        unnest(
            list_append(coalesce(of_layer, []), {'partition_id': '*', 'partition_step': null}), max_depth := 2
        ),
    from function_stability as neurons
    left join partitions_of_layers using (model, stack, layer)
    where neurons.partition_id = '*' and correlation is not null
),

-- A cell has a row a level, reference and checkpoint: cells with fewer are excluded.
numbered as (
    select
        *,
        dense_rank() over (
            partition by last_run_id, model, partition_id, stack, family
            order by level, reference, step
        ) as place,
        count(*) over cell as n_of_cell,
        count(split_half_correlation + reference_split_half_correlation + cross_half_correlation)
            over cell as n_halved_of_cell,
    from of_cells
    window cell as (
        partition by last_run_id, model, partition_id, stack, family, layer, function
    )
),

complete as (
    select
        *,
        n_halved_of_cell = n_of_cell as is_halved,
    from numbered
    qualify n_of_cell = max(place) over (partition by last_run_id, model, partition_id, stack, family)
),

-- Two steps, layers and then functions, as what the jackknife leaves out is a function. Sums, as it takes from them.
of_functions as (
    select
        * exclude (
            layer, n_units, n_dead, correlation, correlation_half_a, correlation_half_b, split_half_correlation,
            reference_split_half_correlation, cross_half_correlation, paper_correlation, place, n_of_cell, n_halved_of_cell,
            is_halved
        ),
        list({'layer': layer, 'n_units': n_units, 'n_dead': n_dead} order by layer) as sizes,
        {
            'n_cells': count(*),
            'correlation': sum(correlation order by layer),
            'paper': sum(paper_correlation order by layer),
            'n_paper_cells': count(paper_correlation),
            'n_halved_cells': count(*) filter (where is_halved),
            'split_half': sum(split_half_correlation order by layer) filter (where is_halved),
            'reference_split_half': sum(reference_split_half_correlation order by layer) filter (where is_halved),
            'cross_half': sum(cross_half_correlation order by layer) filter (where is_halved),
            'half_difference': sum(correlation_half_a - correlation_half_b order by layer) filter (where is_halved)
        } as sums,
    from complete
    group by all
),

of_curves as (
    select
        * exclude (function, sizes, sums),
        list_distinct(flatten(list(sizes))) as sizes,
        list(sums order by function) as of_function,
        sum(sums.n_cells)::bigint as n_cells,
        sum(sums.n_halved_cells)::bigint as n_halved_cells,
        sum(sums.correlation order by function) as correlation,
        sum(sums.paper order by function) / sum(sums.n_paper_cells) as paper_correlation,
        sum(sums.split_half order by function) as split_half,
        sum(sums.reference_split_half order by function) as reference_split_half,
        sum(sums.cross_half order by function) as cross_half,
        sum(sums.half_difference order by function) as half_difference,
    from of_functions
    group by all
),

jackknifed as (
    select
        * exclude (correlation, split_half, reference_split_half, cross_half, half_difference),
        len(sizes) as n_layers,
        list_sum(list_transform(sizes, lambda size: size.n_units))::bigint as n_units,
        list_sum(list_transform(sizes, lambda size: size.n_dead))::bigint as n_dead,
        correlation / n_cells as correlation,
        split_half / n_halved_cells as split_half,
        reference_split_half / n_halved_cells as reference_split_half,
        cross_half / n_halved_cells as cross_half,
        half_difference / n_halved_cells as half_difference,
        list_transform(
            of_function,
            lambda of_one: (correlation - of_one.correlation) / (n_cells - of_one.n_cells)
        ) as correlations,
        list_filter(of_function, lambda of_one: of_one.n_halved_cells > 0) as halved,
        list_transform(
            halved,
            lambda of_one: (half_difference - of_one.half_difference) / (n_halved_cells - of_one.n_halved_cells)
        ) as half_differences,
        list_transform(
            halved,
            lambda of_one: case
                when split_half > of_one.split_half and reference_split_half > of_one.reference_split_half
                    then (cross_half - of_one.cross_half)
                    / sqrt(
                        (split_half - of_one.split_half) * (reference_split_half - of_one.reference_split_half)
                    )
            end
        ) as corrected_correlations,
    from of_curves
),

-- What the jackknife lacks of the variance: that of the noise which functions share, as they share instances.
with_errors as (
    select
        *,
        greatest(
            0,
            avg(half_difference ** 2 - jackknife_error(half_differences) ** 2) filter (where not has_twin) over (
                partition by last_run_id, model, reference, level, partition_id, stack, family
            ) / 4
        ) as shared_variance,
    from jackknifed
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
    len(of_function) as n_functions,
    n_cells,
    n_halved_cells,
    n_units,
    n_dead,
    correlation,
    sqrt(jackknife_error(correlations) ** 2 + shared_variance) as correlation_error,
    split_half as split_half_correlation,
    reference_split_half as reference_split_half_correlation,
    noise_ceiling(split_half, reference_split_half) as ceiling,
    cross_half as cross_half_correlation,
    disattenuated(cross_half, split_half, reference_split_half, n_units - n_layers) as corrected_correlation,
    if(
        corrected_correlation is null,
        null,
        sqrt(jackknife_error(corrected_correlations) ** 2 + shared_variance / (split_half * reference_split_half))
    ) as corrected_error,
    paper_correlation,
    has_twin,
from with_errors
