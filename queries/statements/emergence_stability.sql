-- emergence_stability: how similar are scores at two checkpoints, of some layers and functions, if it is not stored?
--
-- Parameters:
--   $model: the model, as stored
--   $runs: runs of the series
--   $partitions: the partitions, * of neurons
--   $stack: encoder or decoder
--   $layers: first and last layer
--   $functions: the functions
-- Columns:
--   run_id, model, revision, step, reference_run_id, partition_id, stack, layer, family, function, n_units, n_dead
--   correlation, correlation_half_a, correlation_half_b, split_half_correlation, reference_split_half_correlation
--   cross_half_correlation, paper_correlation: the columns of table stabilities
select *
from unstored_stability
where
    model = $model and run_id in $runs and reference_run_id in $runs and partition_id in $partitions
    and stack = $stack and layer between $layers[1] and $layers[2] and function in $functions
order by all
