-- stored_families: which families may be named?
--
-- Columns:
--   family: its name
--   functions: its functions
select family, string_agg(distinct function, ', ') as functions,
from run_functions
group by family
order by all
