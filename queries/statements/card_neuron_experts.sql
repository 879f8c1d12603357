-- card_neuron_experts: in which expert of each partition is a neuron, random groups excluded?
--
-- Parameters:
--   $model: the model, as stored
--   $revision: its revision
--   $stack: encoder or decoder
--   $layer: the layer
--   $neuron: the neuron
-- Columns:
--   partition_id: the partition
--   method: how it was made
--   n_experts: experts in each layer
--   expert: the one that holds the neuron
select partition_id, method, n_experts, expert,
from experts
inner join partitions using (partition_id)
where
    partitions.model = $model and partitions.revision = $revision
    and stack = $stack and layer = $layer and neuron = $neuron
    and method not in ('random', 'matched')
order by all
