-- stored_jobs: which jobs may be named?
--
-- Columns:
--   name: its id, or that of a corpus
--   kind: what it is
select corpus as name, 'corpus' as kind from corpora
union all
select run_id, 'run' from runs
union all
select partition_id, 'partition' from partitions
union all
select emergence_id, 'study' from emergence_studies
union all
select perturbation_id, 'study' from perturbation_studies
