-- measured_layers: which layers did a run measure?
--
-- Parameters:
--   $run: the run_id
-- Columns:
--   stack, layer: the layer
--   n_neurons: neurons of the layer
select stack, layer, n_neurons,
from layers
where run_id = $run
order by all
