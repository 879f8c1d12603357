-- report_series: is a measurement one of a series?
--
-- Parameters:
--   $series: runs of the series
-- Columns:
--   n_checkpoints: its checkpoints; no row without a series
select len($series) as n_checkpoints
where n_checkpoints > 0
