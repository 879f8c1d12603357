-- best_predictivity: how well does a layer's best neuron detect each family's functions?
--
-- The paper's Figure 1, left: the predictivity of a function's best neuron, mean over functions. That neuron is chosen
-- among thousands and scored on the same instances, so some luck is in it. The held-out columns choose neuron and
-- direction on one half of the instances and score them on the other, mean of both ways, over the functions that both
-- halves can score.
--
-- By run
-- Grain: run_id, stack, layer, family
-- Source: neuron_scores, control_top_neurons, run_functions
-- Columns:
--   run_id, model, revision, step, stack, layer, family
--   best_predictivity: mean over functions of the best neuron's predictivity
--   chance: mean over functions of greatest(prevalence, 1 - prevalence): predictivity at chance
--   best_ap: mean over functions of the best neuron's average precision
--   best_lift: mean over functions of the best neuron's lift
--   held_out_predictivity: the same as best_predictivity, chosen on one half and scored on the other
--   held_out_lift: the same as best_lift, chosen on one half and scored on the other
--   n_functions: functions averaged
--   n_held_out_functions: functions averaged in the held-out columns
--   control_predictivity: the same as best_predictivity of control functions, mean over draws, of the control that has most
--   control_lift: the same as best_lift likewise; NULL without ingest --controls
with best_of_functions as (
    select
        run_id,
        model,
        revision,
        step,
        stack,
        layer,
        family,
        function,
        any_value(prevalence) as prevalence,
        max(predictivity) as best_predictivity,
        max(ap) as best_ap,
        max(lift) as best_lift,
        min({'order': -predictivity_half_a, 'neuron': neuron, 'scored': held_out_predictivity_b})
            filter (where predictivity_half_a is not null and predictivity_half_b is not null) as predictivity_a_to_b,
        min({'order': -predictivity_half_b, 'neuron': neuron, 'scored': held_out_predictivity_a})
            filter (where predictivity_half_a is not null and predictivity_half_b is not null) as predictivity_b_to_a,
        min({'order': -lift_half_a, 'neuron': neuron, 'scored': held_out_lift_b})
            filter (where lift_half_a is not null and lift_half_b is not null) as lift_a_to_b,
        min({'order': -lift_half_b, 'neuron': neuron, 'scored': held_out_lift_a})
            filter (where lift_half_a is not null and lift_half_b is not null) as lift_b_to_a,
    from neuron_scores
    group by all
),

by_control as (
    select
        run_id,
        stack,
        layer,
        family,
        control,
        avg(predictivity(ap, ap_complement) order by function, draw) filter (where ranked_by = 'predictivity') as predictivity,
        avg(lift(ap, ap_complement, prevalence) order by function, draw) filter (where ranked_by = 'lift') as lift,
    from control_top_neurons
    left join run_functions using (run_id, family, function)
    where half = 'all' and rank = 1
    group by all
),

controls as (
    select
        run_id,
        stack,
        layer,
        family,
        max(predictivity) as control_predictivity,
        max(lift) as control_lift,
    from by_control
    group by all
)

select
    run_id,
    model,
    revision,
    step,
    stack,
    layer,
    family,
    avg(best_predictivity order by function) as best_predictivity,
    avg(greatest(prevalence, 1 - prevalence) order by function) as chance,
    avg(best_ap order by function) as best_ap,
    avg(best_lift order by function) as best_lift,
    avg((predictivity_a_to_b.scored + predictivity_b_to_a.scored) / 2 order by function) as held_out_predictivity,
    avg((lift_a_to_b.scored + lift_b_to_a.scored) / 2 order by function) as held_out_lift,
    count(*) as n_functions,
    count(predictivity_a_to_b.scored) as n_held_out_functions,
    any_value(control_predictivity) as control_predictivity,
    any_value(control_lift) as control_lift,
from best_of_functions
left join controls using (run_id, stack, layer, family)
group by all
