-- top_neuron_experts: in which expert of each partition is each of a function's top neurons?
--
-- Ranked
-- Intermediate
-- Grain: run_id, partition_id, stack, layer, family, function, neuron
-- Source: top_neurons, partitions, experts
-- Columns:
--   run_id, model, revision, step
--   partition_id: a partition of the model
--   stack, layer, family, function, neuron
--   expert: index of the expert within its layer, NULL outside the partition
select
    tops.run_id,
    tops.model,
    tops.revision,
    tops.step,
    partitions.partition_id,
    tops.stack,
    tops.layer,
    tops.family,
    tops.function,
    tops.neuron,
    experts.expert,
from top_neurons_by(ranking) as tops
inner join partitions using (model)
left join experts
    on experts.partition_id = partitions.partition_id
    and experts.stack = tops.stack
    and experts.layer = tops.layer
    and experts.neuron = tops.neuron
