-- family_best: which function of each family is a neuron the best evidence of?
--
-- Best is what the evidence is best for: the smallest p value, then the highest lift (p is at least 1e-6). The highest
-- lift alone would be that of the function with fewest instances, where luck reaches furthest. Half a alone chooses by
-- how many deviations of chance a score lies above it. Where these are unknown, as of imported results, the ranking
-- decides. Ties go to the first function by name. Stored as neuron_best; computed from all scores of runs that lack it.
--
-- Intermediate
-- By run
-- Grain: run_id, stack, layer, neuron, family
-- Source: neuron_best, live_bests
-- Columns:
--   run_id, model, revision, step, stack, layer, neuron, family, function, n_functions, ap, ap_complement, p_value
--   lift_error, second_function, second_ap, second_ap_complement, held_out_function, held_out_evidence, held_out_lift
from neuron_best
union all by name
from live_bests
