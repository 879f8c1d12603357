-- report_cards: which functions are some neurons the best evidence of?
--
-- Parameters:
--   $run_id: the measurement
--   $neurons: the neurons, as 'stack layer neuron'
--   $n_functions: most functions of a neuron
-- Columns:
--   stack, layer, neuron: the neuron
--   rank: place of the function, 1 for the best: the least p, then the highest lift
--   name: family and function
--   lift: its lift
--   direction: positive or complement
--   p_value: by permutation
select
    stack,
    layer,
    neuron,
    row_number() over (partition by stack, layer, neuron order by p_value nulls last, ranking desc, family, function) as rank,
    family || '/' || function as name,
    lift,
    direction,
    p_value,
from neuron_scores
where run_id = $run_id and list_contains($neurons, concat_ws(' ', stack, layer, neuron))
qualify rank <= $n_functions
order by all
