-- stored_functions: which functions may be named?
--
-- Columns:
--   name: family/function
--   family: its family
select distinct concat(family, '/', function) as name, family,
from run_functions
order by all
