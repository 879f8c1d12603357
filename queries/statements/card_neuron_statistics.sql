-- card_neuron_statistics: how often and how strongly does a neuron fire, and how large are its weights?
--
-- Parameters:
--   $run_id: the measurement
--   $stack: encoder or decoder
--   $layer: the layer
--   $neuron: the neuron
-- Columns:
--   native_expert: the model's own expert that it is in, NULL if none
--   fires_on: share of instances on which it fires
--   mean: mean activation
--   std: standard deviation
--   largest: largest activation
--   input_norm: L2 norm of its input weights
--   output_norm: L2 norm of its output weights
select native_expert, firing_rate as fires_on, mean, std, max as largest, input_norm, output_norm,
from neurons
where run_id = $run_id and stack = $stack and layer = $layer and neuron = $neuron
