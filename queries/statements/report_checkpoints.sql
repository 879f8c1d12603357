-- report_checkpoints: how well is each function detected at each checkpoint of a series, on the half that did not choose?
--
-- Parameters:
--   $series: runs of the series
--   $random_run_id: a random initialisation, NULL if there is none
--   $family: the family, NULL for all
-- Columns:
--   step: training step
--   family, function: the function
--   lift: lift on half b of the neuron chosen for the function on half a, mean over layers
--   random_lift: the same at random initialisation; NULL without
--   control_lift: the same of control functions, of the control that explains most; NULL without
with chosen as (
    select
        run_id,
        step,
        stack,
        layer,
        family,
        held_out_function as function,
        min({'order': -held_out_evidence, 'neuron': neuron, 'lift': held_out_lift}).lift as lift,
    from family_best
    where
        (list_contains($series, run_id) or run_id = $random_run_id)
        and coalesce(family = $family, true) and held_out_lift is not null
    group by all
),

random as (
    select family, function, avg(lift) as random_lift
    from chosen
    where run_id = $random_run_id
    group by all
),

drawn as (
    select
        run_id,
        control,
        draw,
        stack,
        layer,
        family,
        held_out_function as function,
        min({'order': -held_out_evidence, 'neuron': neuron, 'lift': held_out_lift}).lift as lift,
    from control_best
    where list_contains($series, run_id) and coalesce(family = $family, true) and held_out_lift is not null
    group by all
),

controls as (
    select run_id, family, function, max(lift) as control_lift
    from (select run_id, family, function, control, avg(lift) as lift from drawn group by all)
    group by all
)

select
    step,
    family,
    function,
    avg(lift) as lift,
    any_value(random_lift) as random_lift,
    any_value(control_lift) as control_lift,
from chosen
left join random using (family, function)
left join controls using (run_id, family, function)
where list_contains($series, run_id)
group by all
order by all
