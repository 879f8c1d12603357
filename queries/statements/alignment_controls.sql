-- alignment_controls: which neurons are each control function's top neurons in a run, and how rare is the function?
--
-- Parameters:
--   $run: the run_id
--   $ranking: what neurons are ordered by: lift or predictivity
-- Columns:
--   control, draw: how labels were permuted
--   half: the instances that scores are of, all, a or b
--   stack, layer, family, function: the list
--   n_rarer: measured instances of its rarer class
--   neuron: a neuron on it
select
    control,
    draw,
    half,
    stack,
    layer,
    family,
    function,
    least(n_positive, n_negative) as n_rarer,
    neuron,
from control_top_neurons
inner join control_functions using (run_id, control, draw, family, function)
where run_id = $run and ranked_by = $ranking
order by all
