-- card_neuron_functions: which functions does a neuron detect best?
--
-- Parameters:
--   $run_id: the measurement
--   $stack: encoder or decoder
--   $layer: the layer
--   $neuron: the neuron
--   $n_functions: most functions that are listed
-- Columns:
--   name: family and function
--   ap: average precision
--   prevalence: share of positives
--   lift: rise above chance
--   direction: positive or complement
--   p_value: by permutation
select family || '/' || function as name, ap, prevalence, lift, direction, p_value,
from neuron_scores
where run_id = $run_id and stack = $stack and layer = $layer and neuron = $neuron
order by ranking desc, family, function
limit $n_functions
