-- emergence_layers: which layers did a run measure, and does the store know the norms and rates of all their neurons?
--
-- Parameters:
--   $run: the run_id
-- Columns:
--   stack, layer: a layer
--   has_norms: whether each of its neurons has an input norm and a firing rate; a store may hold a run without neurons
select
    stack,
    layer,
    n_neurons = count(*) filter (isfinite(input_norm) and isfinite(firing_rate)) as has_norms,
from layers
left join neurons using (run_id, stack, layer)
where run_id = $run
group by stack, layer, n_neurons
order by stack, layer
