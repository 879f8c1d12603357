-- alignment_experts: which neurons are in the experts of a partition, in the layers that a run measured?
--
-- Parameters:
--   $run: the run_id
--   $partition: the partition_id
-- Columns:
--   stack, layer, neuron, expert: the neuron and its expert
--   input_norm, firing_rate: what the run says of the neuron, NULL where it does not
--   n_neurons: neurons of the layer in the run
select
    experts.stack,
    experts.layer,
    experts.neuron,
    experts.expert,
    neurons.input_norm,
    neurons.firing_rate,
    layers.n_neurons,
from experts
inner join layers
    on layers.run_id = $run
    and layers.stack = experts.stack
    and layers.layer = experts.layer
left join neurons
    on neurons.run_id = $run
    and neurons.stack = experts.stack
    and neurons.layer = experts.layer
    and neurons.neuron = experts.neuron
where experts.partition_id = $partition
order by all
