-- report_partition: which partition of a revision is pictured: by k-means if there is one?
--
-- Experts made of scores hold functions because they were made so: nothing is to be claimed of them.
--
-- Parameters:
--   $model: the model
--   $revision: its revision
-- Columns:
--   partition_id: the partition
select partition_id
from partitions
where
    model = $model and revision = $revision and half is null and method not in ('random', 'matched', 'function')
order by method != 'kmeans', method, n_experts, partition_id
limit 1
