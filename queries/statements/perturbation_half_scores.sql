-- perturbation_half_scores: how high do neurons score on half a, for some functions of a run?
--
-- Parameters:
--   $run: the run_id whose scores rank neurons
--   $functions: functions, as 'family/function'
--   $ranking: what neurons are ordered by: lift or predictivity
-- Columns:
--   family, function: the function
--   stack, layer, neuron: a neuron
--   score: its score, NULL where half a lacks a class of the function
select
    family,
    function,
    stack,
    layer,
    neuron,
    ranked($ranking, ranking_half_a, predictivity_half_a) as score,
from neuron_scores
where run_id = $run and list_contains($functions, family || '/' || function)
