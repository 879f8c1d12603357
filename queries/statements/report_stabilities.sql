-- report_stabilities: of which partitions is the stability in a series stored?
--
-- Parameters:
--   $model: the model
--   $series: runs of the series
-- Columns:
--   partitions: the partitions of the last checkpoint, * of neurons; no row where stability was not computed
select list(distinct partition_id order by partition_id) as partitions
from stabilities
where model = $model and len($series) > 0
having partitions is not null
