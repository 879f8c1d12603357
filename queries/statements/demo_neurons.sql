-- demo_neurons: which neuron of each family is the most specialised?
--
-- Of the neurons that have three labelled instances of their best function among those that activate them most.
--
-- Parameters:
--   $run_id: the measurement
-- Columns:
--   family: function family
--   function: function that the neuron detects best
--   direction: positive or complement
--   stack: encoder or decoder
--   layer: the layer
--   neuron: the neuron
--   predictivity: its predictivity for the function
with neurons_with_texts as (
    select stack, layer, neuron, family, function
    from top_instances as tops
    inner join labels using (corpus, instance_id)
    where tops.run_id = $run_id
    group by all
    having count(*) >= 3
)

select family, function, direction, stack, layer, neuron, predictivity,
from specialization as best
inner join neurons_with_texts using (stack, layer, neuron, family, function)
where best.run_id = $run_id
qualify row_number() over (partition by family order by lift + held_out_lift desc, stack, layer, neuron) = 1
order by family
