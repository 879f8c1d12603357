-- report_card_tokens: at which tokens of which texts, of either side of a function, do some neurons fire?
--
-- Parameters:
--   $run_id: the measurement
--   $places: neurons and functions, as structs of stack, layer, neuron, family and function
--   $n_texts: most texts of a side
-- Columns:
--   stack, layer, neuron, family, function: the neuron and the function
--   is_positive: the side
--   place: place of the text on its side, 1 for the highest activation
--   activation: highest activation of the neuron at its tokens
--   text: the text
--   tokens: structs of start, past_end and activation, by place in the text
with places as (select unnest($places, recursive := true))

select
    stack,
    layer,
    neuron,
    family,
    function,
    is_positive,
    rank as place,
    max(activation) as activation,
    any_value(texts.text) as text,
    list(
        {'start': top_tokens.start_char, 'past_end': top_tokens.end_char, 'activation': activation}
        order by top_tokens.start_char
    ) as tokens,
from top_tokens
inner join places using (stack, layer, neuron, family, function)
inner join instances using (corpus, instance_id)
inner join texts using (corpus, text_id)
where run_id = $run_id and rank <= $n_texts
group by all
order by stack, layer, neuron, family, function, is_positive desc, place
