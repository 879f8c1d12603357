-- emergence_unstored: in which layers of a series is stability of neurons or partitions not stored?
--
-- Parameters:
--   $model: the model, as stored
--   $runs: runs of the series
--   $partitions: the partitions, * of neurons
-- Columns:
--   stack: encoder or decoder
--   layer: index of the layer
--   n_neurons: neurons of the layer, at the checkpoint where they are most
--   compared: run, run it is compared to and partition, of all that is not stored
with unstored as (
    select
        * exclude (partition_ids),
        unnest(partition_ids) as partition_id,
    from compared_layers
    where model = $model and run_id in $runs and reference_run_id in $runs
)

select
    stack,
    layer,
    max(n_neurons) as n_neurons,
    list([run_id, reference_run_id, partition_id]) as compared,
from unstored
inner join layers using (run_id, model, stack, layer)
where partition_id in $partitions
group by all
order by all
