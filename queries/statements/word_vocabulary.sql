-- word_vocabulary: which neurons' weights have a word among the tokens that they write, or read, most?
--
-- Parameters:
--   $word: the word; ## before a piece of one
--   $direction: writes or reads
--   $run_id: the measurement; NULL for all
--   $n_neurons: most neurons that are listed
-- Columns:
--   model: the model
--   revision: its revision
--   stack: encoder or decoder
--   layer: the layer
--   neuron: the neuron
--   weight: product of its weights with those of the token, the highest of its spellings
--   rank: 1 if no token has a higher one
select model, revision, stack, layer, neuron, max(weight) as weight, min(rank) as rank,
from neuron_vocabulary
where
    direction = $direction and rank > 0 and lower(if(is_piece, '##', '') || token) = lower($word)
    and ($run_id is null or run_id = $run_id)
group by model, revision, stack, layer, neuron
order by weight desc, model, revision, stack, layer, neuron
limit $n_neurons
