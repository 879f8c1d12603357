-- alignment_lists: which neurons are each function's top neurons in a run?
--
-- Parameters:
--   $run: the run_id
--   $ranking: what neurons are ordered by: lift or predictivity
-- Columns:
--   half: the instances that scores are of, all, a or b
--   stack, layer, family, function: the list
--   neuron: a neuron on it
select 'all' as half, stack, layer, family, function, neuron
from top_neurons_by($ranking)
where run_id = $run
union all
select half, stack, layer, family, function, neuron
from held_out_top_neurons_by($ranking)
where run_id = $run
order by all
