-- partition_report: how large are the experts of a partition, and how good are they by the measure of its method?
--
-- Parameters:
--   $partition: the partition_id
-- Columns:
--   method, objective_name: as stored
--   n_layers, n_neurons, n_experts: its layers, their neurons, and experts a layer, the most where layers differ
--   n_smallest, n_largest: neurons of the smallest and of the largest expert
--   objective, objective_random: means over layers
select
    any_value(method) as method,
    count(*) as n_layers,
    sum(layers.n_neurons)::bigint as n_neurons,
    max(layers.n_experts) as n_experts,
    min(n_smallest) as n_smallest,
    max(n_largest) as n_largest,
    any_value(objective_name) as objective_name,
    avg(layers.objective) as objective,
    avg(objective_random) as objective_random,
from partition_layers as layers
inner join partitions using (partition_id)
where partition_id = $partition
