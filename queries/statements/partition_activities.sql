-- partition_activities: of which activities does a run have coactivations?
--
-- Parameters:
--   $run: the run_id
-- Columns:
--   activity: when a neuron counts as active
--   stack, layer: the layer
--   n_pairs: pairs of a neuron and a close partner
select activity, stack, layer, count(*) as n_pairs,
from coactivations
where run_id = $run
group by all
