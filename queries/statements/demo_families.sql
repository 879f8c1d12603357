-- demo_families: how well does the best neuron of a layer detect a function, trained and at random initialisation?
--
-- Parameters:
--   $trained: run of the pretrained weights
--   $random: run of the random initialisation
-- Columns:
--   family: function family
--   functions: functions of the family
--   chance: predictivity by chance, mean over functions
--   trained: predictivity of a layer's best neuron, mean over functions and layers
--   random: the same at random initialisation
--   trained_held_out: predictivity on the half of the instances that did not choose the neuron
--   random_held_out: the same at random initialisation
select
    family,
    any_value(n_functions) as functions,
    avg(chance order by stack, layer) as chance,
    avg(best_predictivity order by stack, layer) filter (where run_id = $trained) as trained,
    avg(best_predictivity order by stack, layer) filter (where run_id = $random) as random,
    avg(held_out_predictivity order by stack, layer) filter (where run_id = $trained) as trained_held_out,
    avg(held_out_predictivity order by stack, layer) filter (where run_id = $random) as random_held_out,
from best_predictivity
where run_id in ($trained, $random)
group by family
order by family
