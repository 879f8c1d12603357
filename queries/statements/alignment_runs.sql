-- alignment_runs: which runs measured a layer of a partition in its checkpoint?
--
-- Parameters:
--   $partition: the partition_id
--   $model, revision: the checkpoint
-- Columns:
--   run_id: the run
select run_id,
from layers
semi join (from partition_layers where partition_id = $partition) using (stack, layer)
where model = $model and revision = $revision
