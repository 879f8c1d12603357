-- stored_functions: which functions may be named?
--
-- Columns:
--   name: family/function
--   family: its family
select distinct concat(family, '/', function) as name, family,
from (select family, function from run_functions union select family, function from neuron_functions)
order by all
