-- neuron_controls: how well does each neuron detect control functions, and how many neurons detect theirs as well?
--
-- Control functions are those of the run with labels permuted while texts or words keep theirs (control_functions).
-- Each neuron's best of them is chosen as its best function is, by evidence. Of n real neurons at or above a lift, as
-- many are expected to be there for texts or words alone as control neurons are, mean over the draws: their share of n,
-- with one control neuron more for good measure, is the q value; of several controls the one that explains most counts.
-- A neuron whose best function a control lacks (strata may fix a function) is not compared with that control.
--
-- Intermediate
-- Empty without: control_functions
-- Type: control_lift double
-- Type: control_q_value double
-- Grain: run_id, stack, layer, neuron
-- Source: family_best, control_best, control_functions, run_functions
-- Columns:
--   run_id, model, revision, step, stack, layer, neuron
--   control: the control whose functions the neuron detects best
--   control_lift: lift of its best function there, mean over draws; NULL if all controls lack the neuron's best function
--   control_q_value: share of neurons as specialised as this one that controls explain, the highest of all; NULL likewise
with controls as (
    select
        run_id,
        control,
        count(distinct draw) as n_draws,
    from control_functions
    group by all
),

of_functions as (
    select distinct
        run_id,
        control,
        family,
        function,
        true as has_control,
    from control_functions
),

lifts as (
    select
        run_id,
        best.model,
        best.revision,
        best.step,
        control,
        null as draw,
        stack,
        layer,
        neuron,
        min({
            'p_order': p_value,
            'order': -lift(ap, ap_complement, prevalence),
            'family': family,
            'lift': if(has_control, lift(ap, ap_complement, prevalence), null)
        }).lift as lift,
    from family_best as best
    inner join controls using (run_id)
    left join of_functions using (run_id, control, family, function)
    left join run_functions using (run_id, family, function)
    group by all
    union all
    select
        run_id,
        best.model,
        best.revision,
        best.step,
        control,
        draw,
        stack,
        layer,
        neuron,
        best_lift(p_value, lift(ap, ap_complement, prevalence)) as lift,
    from control_best as best
    left join run_functions using (run_id, family, function)
    group by all
),

counted as (
    select
        *,
        count(lift) filter (draw is null) over (partition by run_id, control order by lift desc) as n_real,
        count(draw) over (partition by run_id, control order by lift desc) as n_control,
    from lifts
),

rated as (
    select
        *,
        min(least(1, (1 + n_control) / n_draws / nullif(n_real, 0)))
            over (partition by run_id, control order by lift) as q_value,
    from counted
    inner join controls using (run_id, control)
),

by_control as (
    select
        run_id,
        model,
        revision,
        step,
        control,
        stack,
        layer,
        neuron,
        avg(lift) filter (draw is not null) as control_lift,
        any_value(q_value) filter (draw is null) as q_value,
        any_value(lift) filter (draw is null) as lift,
    from rated
    group by all
)

select
    run_id,
    model,
    revision,
    step,
    stack,
    layer,
    neuron,
    max({'lift': control_lift, 'control': control}).control as control,
    max(control_lift) as control_lift,
    max(q_value) as control_q_value,
from by_control
where lift is not null
group by all
