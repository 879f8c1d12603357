-- stored_partitions: which partitions may be named?
--
-- Columns:
--   partition_id: the partition
--   what: model, revision and method
select partition_id, concat_ws(' ', model, revision, 'by', method) as what,
from partitions
order by all
