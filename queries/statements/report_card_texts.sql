-- report_card_texts: which texts of either side of a function activate each of some neurons most, and at which tokens?
--
-- Parameters:
--   $run_id: the measurement
--   $places: neurons and functions, as structs of stack, layer, neuron, family and function
--   $n_texts: most texts of a side
-- Columns:
--   stack, layer, neuron, family, function: the neuron and the function
--   is_positive: the side; NULL of texts that are not labelled for the function
--   place: place of the text on its side, 1 for the highest activation
--   activation: activation of the neuron
--   text: the text, the span of the instance in brackets
with places as (select unnest($places, recursive := true)),

sided as (
    select
        tops.stack,
        tops.layer,
        tops.neuron,
        places.family,
        places.function,
        coalesce(labels.is_positive, case functions.negatives when 'rest' then false end) as is_positive,
        tops.rank,
        tops.value,
        tops.corpus,
        tops.instance_id,
    from top_instances as tops
    inner join places using (stack, layer, neuron)
    inner join functions using (corpus, family, function)
    left join labels using (corpus, instance_id, family, function)
    where run_id = $run_id
),

placed as (
    select
        * exclude (rank),
        row_number() over (partition by stack, layer, neuron, family, function, is_positive order by rank) as place,
    from sided
    qualify place <= $n_texts
)

select
    stack,
    layer,
    neuron,
    family,
    function,
    is_positive,
    place,
    value as activation,
    excerpt(texts.text, instances.start_char, instances.end_char, 110) as text,
from placed
inner join instances using (corpus, instance_id)
inner join texts using (corpus, text_id)
order by stack, layer, neuron, family, function, is_positive desc nulls last, place
