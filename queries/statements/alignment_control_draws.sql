-- alignment_control_draws: which permutations of labels were scored beside a run?
--
-- Parameters:
--   $run: the run_id
-- Columns:
--   control, draw: how labels were permuted
select distinct control, draw,
from control_functions
where run_id = $run
order by all
