-- report_function_map: how well does a layer's neuron detect each function on the half that did not choose it?
--
-- The neuron is the one with the most evidence for the function on half a, of those that have most evidence for it
-- within its family; its lift is that on half b. The same of the random initialisation, and of control functions (mean
-- over draws; of several controls the one that explains most).
--
-- Parameters:
--   $run_id: the measurement
--   $random_run_id: its random initialisation, NULL if there is none
--   $family: the family, NULL for all
-- Columns:
--   stack, layer, family, function: the cell
--   neuron: the neuron
--   held_out_lift: its lift on half b
--   random_lift: that of the random initialisation; NULL without
--   control_lift: that of control functions; NULL without
--   difference: held_out_lift less control_lift if the run has controls, else less random_lift if it has a random
--     initialisation, else as it is; NULL where the cell has none of what the others are compared with
with chosen as (
    select
        run_id,
        stack,
        layer,
        family,
        held_out_function as function,
        min({'order': -held_out_evidence, 'neuron': neuron, 'lift': held_out_lift}) as best,
    from family_best
    where run_id in ($run_id, $random_run_id) and coalesce(family = $family, true) and held_out_lift is not null
    group by all
),

drawn as (
    select
        control,
        draw,
        stack,
        layer,
        family,
        held_out_function as function,
        min({'order': -held_out_evidence, 'neuron': neuron, 'lift': held_out_lift}).lift as lift,
    from control_best
    where run_id = $run_id and coalesce(family = $family, true) and held_out_lift is not null
    group by all
),

controls as (
    select stack, layer, family, function, max(lift) as control_lift
    from (select stack, layer, family, function, control, avg(lift) as lift from drawn group by all)
    group by all
)

select
    trained.stack,
    trained.layer,
    trained.family,
    trained.function,
    trained.best.neuron as neuron,
    trained.best.lift as held_out_lift,
    random.best.lift as random_lift,
    controls.control_lift,
    trained.best.lift - case
        when exists (from controls) then controls.control_lift
        when $random_run_id is not null then random.best.lift
        else 0
    end as difference,
from chosen as trained
left join chosen as random
    on random.run_id = $random_run_id
    and (random.stack, random.layer, random.family, random.function)
        = (trained.stack, trained.layer, trained.family, trained.function)
left join controls
    on (controls.stack, controls.layer, controls.family, controls.function)
        = (trained.stack, trained.layer, trained.family, trained.function)
where trained.run_id = $run_id
order by all
