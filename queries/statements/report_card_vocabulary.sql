-- report_card_vocabulary: which tokens do the weights of some neurons write and read?
--
-- Parameters:
--   $run_id: the measurement
--   $neurons: the neurons, as 'stack layer neuron'
--   $n_tokens: most tokens of a direction
-- Columns:
--   stack, layer, neuron: the neuron
--   direction: writes or reads
--   tokens: the tokens, those of the highest weights first
select
    stack,
    layer,
    neuron,
    direction,
    list(token order by rank) as tokens,
from neuron_vocabulary
where
    run_id = $run_id and rank between 1 and $n_tokens
    and list_contains($neurons, concat_ws(' ', stack, layer, neuron))
group by all
order by all
