-- partitions_of_runs: in which layers of which runs can the experts of a partition be tested?
--
-- In those of any run of the partition's model. A layer that lacks neurons of the partition is another network's, as of
-- an earlier revision of a growing model: it has no row. Experts made of scores on a half of another kind than the
-- run's (by word, by text) are made of instances of both of its halves: their partition_half is all.
--
-- Intermediate
-- Grain: run_id, partition_id, stack, layer
-- Source: layers, experts, partitions, runs
-- Columns:
--   run_id, model, revision, step, partition_id
--   partition_revision: revision whose neurons it partitions
--   partition_step: training step of that revision, NULL when unknown
--   method
--   partition_half: instances whose scores made the experts (all, a or b): tests on them are circular; NULL if none did
--   stack, layer
--   n_experts: experts of the layer
--   n_covered: neurons of the layer that are in an expert
--   experts: the experts of the layer, each with its n_neurons
with sizes as (
    select
        partition_id,
        stack,
        layer,
        expert,
        count(*) as n_neurons,
        max(neuron) as last_neuron,
    from experts
    group by all
),

-- One row a layer, not one an expert, so that no view has to read the experts twice.
sizes_of_layers as (
    select
        partition_id,
        stack,
        layer,
        list({'expert': expert, 'n_neurons': n_neurons} order by expert) as experts,
        count(*) as n_experts,
        sum(n_neurons)::bigint as n_covered,
        max(last_neuron) as last_neuron,
    from sizes
    group by all
)

select
    layers.run_id,
    layers.model,
    layers.revision,
    layers.step,
    partition_id,
    partitions.revision as partition_revision,
    partitions.step as partition_step,
    partitions.method,
    case
        when partitions.half = 'a' and coalesce(makers.halves, 'text') != coalesce(runs.halves, 'text') then 'all'
        else partitions.half
    end as partition_half,
    stack,
    layer,
    sizes_of_layers.n_experts,
    sizes_of_layers.n_covered,
    sizes_of_layers.experts,
from sizes_of_layers
inner join partitions using (partition_id)
inner join layers using (model, stack, layer)
left join runs on runs.run_id = layers.run_id
left join runs as makers on makers.run_id = partitions.run_id
where sizes_of_layers.last_neuron < layers.n_neurons
