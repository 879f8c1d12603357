-- stored_families: which families may be named?
--
-- Columns:
--   family: its name
--   functions: its functions
select family, string_agg(distinct function, ', ') as functions,
from (
    select family, function from run_functions
    union
    -- Of imported results, whose functions are known by their scores alone.
    select family, function from neuron_functions
    where run_id in (select run_id from runs where run_id not in (select run_id from run_functions))
)
group by family
order by all
