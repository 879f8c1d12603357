-- perturbation_partition_half: which half of a run's scores was a partition made of?
--
-- Parameters:
--   $run: the run_id
--   $partition: the partition_id
-- Columns:
--   half: all, a or b; NULL where it was made of none
select max(partition_half) as half,
from partitions_of_runs
where run_id = $run and partition_id = $partition
