-- neuron_controls: how far do control functions reach, and how many neurons reach as far in theirs as each in its own?
--
-- Control functions are those of the run with labels permuted while texts or words keep theirs (control_functions).
-- Each neuron's best of them is chosen as its best function is, by evidence. Chance lifts functions of few instances
-- further, and words those of few words, so that a lift counts as a multiple of what a layer's foremost neuron reaches in
-- the control of the same function; the multiple of its best control function, times what the control of its best
-- function reaches, is that lift on the scale of its best function. Of n real neurons of a family that reach as far, as many are expected for texts or
-- words alone as control neurons of the family do, mean over the draws: their share of n, with one control neuron more
-- for good measure, is the q value; of several controls the one that explains most counts. A neuron whose best function
-- a control lacks (strata may fix a function) is not compared with that control.
--
-- Intermediate
-- Empty without: control_functions
-- Type: control_lift double
-- Type: control_q_value double
-- Grain: run_id, stack, layer, neuron
-- Source: family_best, control_best, control_top_neurons, control_functions, run_functions
-- Columns:
--   run_id, model, revision, step, stack, layer, neuron
--   control: the control whose functions the neuron detects best
--   control_lift: lift of its best function there, on the scale of its best function; NULL if all controls lack that
--   control_q_value: share of neurons that reach as far as this one that controls explain, highest of all; NULL likewise
with controls as (
    select
        run_id,
        control,
        count(distinct draw) as n_draws,
    from control_functions
    group by all
),

reached as (
    select
        run_id,
        control,
        family,
        function,
        greatest(avg(lift(ap, ap_complement, prevalence) order by draw, stack, layer), 1e-9) as reach,
    from control_top_neurons
    left join run_functions using (run_id, family, function)
    where half = 'all' and ranked_by = 'lift' and rank = 1
    group by all
),

scores as (
    select
        *,
        null as draw,
    from family_best
    inner join controls using (run_id)
    union all by name
    from control_best
),

bests as (
    select
        run_id,
        scores.model,
        scores.revision,
        scores.step,
        control,
        draw,
        stack,
        layer,
        neuron,
        min({
            'p_order': p_value,
            'order': -lift(ap, ap_complement, prevalence),
            'family': family,
            'function': function,
            'reach': reach
        }) as best,
    from scores
    left join reached using (run_id, control, family, function)
    left join run_functions using (run_id, family, function)
    group by all
),

multiples as (
    select
        * exclude (best),
        best.family as family,
        best.reach as reach,
        -best."order" / best.reach as multiple,
    from bests
),

counted as (
    select
        *,
        count(multiple) filter (draw is null)
            over (partition by run_id, control, family order by multiple desc) as n_real,
        count(draw) filter (multiple is not null)
            over (partition by run_id, control, family order by multiple desc) as n_control,
    from multiples
),

rated as (
    select
        *,
        min(least(1, (1 + n_control) / n_draws / nullif(n_real, 0)))
            over (partition by run_id, control, family order by multiple) as q_value,
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
        avg(multiple order by draw) filter (draw is not null) * any_value(reach) filter (draw is null) as control_lift,
        any_value(q_value) filter (draw is null and multiple is not null) as q_value,
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
where q_value is not null
group by all
