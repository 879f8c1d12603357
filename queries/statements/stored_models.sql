-- stored_models: which models does a store have?
--
-- Columns:
--   model: its name
--   revisions: its revisions
select model, string_agg(distinct revision, ', ') as revisions,
from runs
group by model
order by all
