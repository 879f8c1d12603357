-- stored_runs: which runs may be named?
--
-- Columns:
--   run_id: the run
--   what: model, revision and corpus
select run_id, concat_ws(' ', model, revision, 'on ' || corpus) as what,
from runs
order by started_at
