-- word_texts: which neurons fire most on a word, in the most of their listed texts?
--
-- Parameters:
--   $word: the word
--   $run_id: the measurement; NULL for all
--   $n_neurons: most neurons that are listed
-- Columns:
--   model: the model
--   revision: its revision
--   stack: encoder or decoder
--   layer: the layer
--   neuron: the neuron
--   n_texts: texts in which no token activates it more
--   text: the one of highest activation, the word between « and »
with fired as (
    select distinct on (run_id, stack, layer, neuron, corpus, instance_id)
        run_id,
        model,
        revision,
        stack,
        layer,
        neuron,
        corpus,
        instance_id,
        start_char as token_start,
        end_char as token_end,
        activation,
    from top_tokens
    where $run_id is null or run_id = $run_id
    order by abs(activation) desc
)

select
    model,
    revision,
    stack,
    layer,
    neuron,
    count(*) as n_texts,
    arg_max(excerpt_between(texts.text, token_start, token_end, 60, '«', '»'), abs(activation)) as text,
from fired
inner join instances using (corpus, instance_id)
inner join texts using (corpus, text_id)
where lower(substring(texts.text, token_start + 1, token_end - token_start)) = lower($word)
group by run_id, model, revision, stack, layer, neuron
order by n_texts desc, max(activation) desc, run_id, stack, layer, neuron
limit $n_neurons
