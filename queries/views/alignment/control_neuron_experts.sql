-- control_neuron_experts: how many top neurons of control functions, whose labels were permuted, does each expert hold?
--
-- Experts that hold none of a function's top neurons have no row.
--
-- Ranked
-- Intermediate
-- Empty without: control_top_neurons
-- Type: n_top bigint
-- Grain: run_id, partition_id, control, draw, stack, layer, expert, family, function
-- Source: control_top_neurons, partitions, experts
-- Columns:
--   run_id, model, revision, step
--   partition_id: a partition of the model
--   control: what kept its labels together: instance, text, group, word or word-in-stratum
--   draw: number of the permutation
--   stack, layer, expert, family, function
--   n_top: the control function's top neurons in the expert
select
    tops.run_id,
    tops.model,
    tops.revision,
    tops.step,
    partitions.partition_id,
    tops.control,
    tops.draw,
    tops.stack,
    tops.layer,
    experts.expert,
    tops.family,
    tops.function,
    count(*) as n_top,
from control_top_neurons as tops
inner join partitions using (model)
inner join experts
    on experts.partition_id = partitions.partition_id
    and experts.stack = tops.stack
    and experts.layer = tops.layer
    and experts.neuron = tops.neuron
where tops.half = 'all' and tops.ranked_by = ranked(ranking, 'lift', 'predictivity')
group by all
