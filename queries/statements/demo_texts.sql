-- demo_texts: which labelled texts of a function activate a neuron most?
--
-- Parameters:
--   $run_id: the measurement
--   $stack: encoder or decoder
--   $layer: the layer
--   $neuron: the neuron
--   $family: family of the function
--   $function: the function
-- Columns:
--   text: the text, the span of the instance in brackets, and between « and » the token on which the neuron fires most
select highlighted(texts.text, instances.start_char, instances.end_char, token_start, token_end, 90) as text,
from top_instances as tops
left join fired('top_tokens', $run_id, $stack, $layer, $neuron) as fired using (corpus, instance_id)
inner join labels using (corpus, instance_id)
inner join instances using (corpus, instance_id)
inner join texts using (corpus, text_id)
where
    tops.run_id = $run_id and tops.stack = $stack and tops.layer = $layer and tops.neuron = $neuron
    and family = $family and function = $function
order by tops.rank
limit 3
