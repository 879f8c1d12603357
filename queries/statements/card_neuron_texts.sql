-- card_neuron_texts: which texts activate a neuron most, of those that are, are not or may be a function's?
--
-- Parameters:
--   $run_id: the measurement
--   $stack: encoder or decoder
--   $layer: the layer
--   $neuron: the neuron
--   $family: family of the function
--   $function: the function
--   $is_positive: whether the texts are the function's; NULL for those that are not labelled for it
--   $n_texts: most texts that are listed
-- Columns:
--   activation: activation of the neuron on the instance
--   text: the text, the span of the instance in brackets, and between « and » the token on which the neuron fires most
select
    value as activation,
    highlighted(texts.text, instances.start_char, instances.end_char, token_start, token_end, 110) as text,
from top_instances
left join fired('top_tokens', $run_id, $stack, $layer, $neuron) as fired using (corpus, instance_id)
inner join instances using (corpus, instance_id)
inner join texts using (corpus, text_id)
inner join functions using (corpus)
left join labels using (corpus, instance_id, family, function)
where
    family = $family and function = $function
    and run_id = $run_id and stack = $stack and layer = $layer and neuron = $neuron
    and coalesce(is_positive, case negatives when 'rest' then false end) is not distinct from $is_positive
order by rank
limit $n_texts
