-- perturbation_top_neurons: which neurons are the best of each function on half a, over all studied layers?
--
-- Parameters:
--   $run: the run_id whose scores rank neurons
--   $layers: studied layers, as 'stack layer'
--   $functions: functions, as 'family/function'
--   $most: most neurons of a function
--   $ranking: what neurons are ordered by: lift or predictivity
-- Columns:
--   family, function: the function
--   stack, layer, neuron: its neurons, best first
--   n_functional: NULL, as there are no experts
with scores as (
    select *, ranked($ranking, ranking_half_a, predictivity_half_a) as score
    from neuron_scores
    where run_id = $run
        and list_contains($layers, stack || ' ' || layer)
        and list_contains($functions, family || '/' || function)
)

select
    family,
    function,
    stack,
    layer,
    neuron,
    null::bigint as n_functional,
from scores
where score is not null
qualify row_number() over (partition by family, function order by score desc, stack, layer, neuron) <= $most
order by family, function, score desc, stack, layer, neuron
