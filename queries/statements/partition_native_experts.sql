-- partition_native_experts: in which of the model's own experts are the neurons of a run?
--
-- Parameters:
--   $run: the run_id
-- Columns:
--   stack, layer, neuron: a neuron in one
--   native_expert: its expert
select stack, layer, neuron, native_expert,
from neurons
where run_id = $run and native_expert is not null
