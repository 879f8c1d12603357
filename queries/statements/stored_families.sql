-- stored_families: which families may be named?
--
-- Columns:
--   family: its name
--   functions: its functions
select family, string_agg(distinct function, ', ') as functions,
from (select family, function from run_functions union select family, function from neuron_functions)
group by family
order by all
