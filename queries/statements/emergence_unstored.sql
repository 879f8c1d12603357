-- emergence_unstored: which layers of two checkpoints of a series are compared, where it is not stored?
--
-- Parameters:
--   $model: the model, as stored
--   $runs: runs of the series
--   $partitions: the partitions, * of neurons
-- Columns:
--   stack: encoder or decoder
--   layer: index of the layer
--   step, revision, run_id, reference_run_id: the checkpoint and the run it is compared to
--   n_neurons: neurons of the layer, of both
--   units: the partitions of which it is not stored, * of neurons
--   is_known: whether it is known of both which neurons are dead
--   dead: neurons that are dead at either
--   dead_hash: a number that is the same where they are
select
    stack,
    layer,
    compared_layers.step,
    compared_layers.revision,
    run_id,
    reference_run_id,
    n_neurons,
    list_filter(partition_ids, lambda each: each in $partitions) as units,
    is_known,
    dead,
    dead_hash,
from compared_layers
inner join layers using (run_id, model, stack, layer)
where model = $model and run_id in $runs and reference_run_id in $runs and len(units) > 0
order by stack, layer, compared_layers.step, reference_run_id
