-- card_neuron_vocabulary: which tokens do a neuron's weights write and read most, and least?
--
-- Parameters:
--   $run_id: the measurement
--   $stack: encoder or decoder
--   $layer: the layer
--   $neuron: the neuron
-- Columns:
--   direction: writes or reads
--   side: most or least
--   tokens: tokens with their weights, the furthest first; ## before a piece that goes on with a word
select
    direction,
    if(rank > 0, 'most', 'least') as side,
    string_agg(if(is_piece, '##', '') || token || format(' {:.2f}', weight), ', ' order by abs(rank)) as tokens,
from neuron_vocabulary
where run_id = $run_id and stack = $stack and layer = $layer and neuron = $neuron
group by all
order by direction desc, side desc
