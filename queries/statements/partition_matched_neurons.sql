-- partition_matched_neurons: which neurons are in the experts of a partition, and what are their norms and firing rates?
--
-- Parameters:
--   $run: the run_id that norms and firing rates are of
--   $partition: the partition_id
-- Columns:
--   stack, layer, neuron, expert: the neuron and its expert
--   input_norm, firing_rate: what the run says of the neuron, NULL where it does not
select stack, layer, neuron, expert, input_norm, firing_rate
from experts
left join (select * from neurons where run_id = $run) using (stack, layer, neuron)
where partition_id = $partition
