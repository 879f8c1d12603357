-- word_functions: which neurons are specialised in the functions whose names have a word in them?
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
--   name: family and function
--   lift: rise above chance
--   direction: positive or complement
select model, revision, stack, layer, neuron, family || '/' || function as name, lift, direction,
from top_neurons
where
    regexp_matches(lower(function), '(^|[^\pL\pN])' || regexp_escape(lower($word)) || '($|[^\pL\pN])')
    and ($run_id is null or run_id = $run_id)
order by lift desc nulls last, run_id, stack, layer, neuron
limit $n_neurons
