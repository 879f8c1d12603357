-- card_expert_neurons: which neurons of an expert are the most specialised?
--
-- Parameters:
--   $run_id: the measurement
--   $partition_id: the partition
--   $stack: encoder or decoder
--   $layer: the layer
--   $expert: the expert
--   $n_neurons: most neurons that are listed
-- Columns:
--   neuron: the neuron
--   name: family and function that it detects best
--   predictivity: its predictivity for the function
--   lift: rise above chance
--   q_value: adjusted for all neurons of the run
select neuron, family || '/' || function as name, predictivity, lift, q_value,
from experts
inner join specialization using (stack, layer, neuron)
where
    specialization.run_id = $run_id and partition_id = $partition_id
    and stack = $stack and layer = $layer and expert = $expert
order by coalesce(lift, predictivity) desc, neuron
limit $n_neurons
