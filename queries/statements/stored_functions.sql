-- stored_functions: which functions may be named?
--
-- Columns:
--   name: family/function
--   family: its family
select distinct concat(family, '/', function) as name, family,
from (
    select family, function from run_functions
    union
    -- Of imported results, whose functions are known by their scores alone.
    select family, function from neuron_functions
    where run_id in (select run_id from runs where run_id not in (select run_id from run_functions))
)
order by all
