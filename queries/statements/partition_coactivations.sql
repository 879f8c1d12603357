-- partition_coactivations: how often are two neurons of a layer active together, as a share of when either is?
--
-- Parameters:
--   $run: the run_id that the counts belong to
--   $activity: when a neuron counts as active, as stored
--   $stack: the stack of the layer
--   $layer: its number
-- Columns:
--   neuron, partner: a neuron and one of its closest partners
--   weight: the Jaccard index of the instances on which they are active
select
    neuron,
    partner,
    n_both / (n_active + n_active_partner - n_both) as weight,
from coactivations
where run_id = $run and activity = $activity and stack = $stack and layer = $layer
