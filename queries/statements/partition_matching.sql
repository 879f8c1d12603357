-- partition_matching: what are the neurons of a run matched on?
--
-- Parameters:
--   $run: the run_id
-- Columns:
--   stack, layer, neuron: the neuron
--   input_norm: L2 norm of its input weights
--   firing_rate: share of instances on which it fires
select stack, layer, neuron, input_norm, firing_rate,
from neurons
where run_id = $run
