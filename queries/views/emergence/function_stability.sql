-- function_stability: how similar are neurons', experts' and random groups' scores for a function at two checkpoints?
--
-- checkpoint_stability averages these rows over the functions of a family, stability_curves over layers as well. Only
-- neurons alive at both checkpoints count (compared_layers says which). Rows are those that neuronlake emergence
-- stored, and all others computed (unstored_stability). A unit is such a neuron, scored by its signed lift, or an
-- expert, scored by the mean over those of its neurons: a neuron that detects a function at one checkpoint and its
-- complement at the other has changed. Both runs must have the same neurons by index, so layers of equal width. Without
-- any variation in a run's scores there is no correlation; if a half lacks a class there is none of that half.
-- paper_correlation is that of Zhang et al. 2023: of predictivity, which has no sign, and over all neurons, dead ones
-- too. Partitions of any revision are used (partitions_of_runs).
--
-- Grain: last_run_id, run_id, reference, level, partition_id, stack, layer, family, function
-- Source: compared_runs, stabilities, unstored_stability, partitions
-- Columns:
--   last_run_id, run_id, model, revision, step, corpus, reference, reference_run_id, reference_revision
--   reference_step
--   level: neuron; expert; or random_group: an expert of a partition of method random or matched
--   partition_id: the partition, * of neurons
--   partition_step: training step of the revision it partitions, NULL when unknown and of neurons
--   method: how it was made, NULL of neurons
--   stack, layer, family, function
--   n_units, n_dead, correlation, correlation_half_a, correlation_half_b, split_half_correlation
--   reference_split_half_correlation, cross_half_correlation, paper_correlation, has_twin
select
    compared_runs.* exclude (has_twin),
    case
        when partition_id = '*' then 'neuron'
        when partitions.method in ('random', 'matched') then 'random_group'
        else 'expert'
    end as level,
    partition_id,
    partitions.step as partition_step,
    partitions.method,
    compared.* exclude (run_id, model, revision, step, reference_run_id, partition_id),
    has_twin,
from compared_runs
inner join (
    -- Distinct, as stores that were merged may hold the same rows twice.
    from stabilities
    union by name
    from unstored_stability
) as compared using (run_id, reference_run_id, model)
left join partitions using (partition_id, model)
