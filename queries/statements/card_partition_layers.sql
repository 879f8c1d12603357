-- card_partition_layers: how many experts does a partition have in each layer?
--
-- Parameters:
--   $partition: the partition_id
-- Columns:
--   stack, layer: the layer
--   n_experts: experts of the layer
select stack, layer, n_experts,
from partition_layers
where partition_id = $partition
order by all
