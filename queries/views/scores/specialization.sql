-- specialization: which function does each neuron detect best, and by how much?
--
-- Best is what the evidence is best for, as in family_best: the smallest p value, then the highest lift. Ties go to the
-- first family by name.
--
-- By run
-- Grain: run_id, stack, layer, neuron
-- Source: family_best, neuron_controls, run_functions, runs
-- Columns:
--   run_id, model, revision, step, corpus, stack, layer, neuron
--   family: family of the best function
--   function: the best function, by evidence
--   direction: positive or complement: whether activation marks the function's positives or negatives; NULL if unknown
--   predictivity: predictivity of the best function
--   prevalence: share of positives of the best function, NULL when unknown
--   lift: lift of the best function, NULL when its prevalence is unknown
--   lift_error: half the distance of its lifts on both halves: a standard error of one degree of freedom
--   second_family: the family whose best function comes next, NULL when there is one family
--   second_family_lift: lift of that family's best function
--   margin: lift - second_family_lift, below 0 where the second family has more lift and less evidence
--   held_out_family: family of the function chosen by evidence on half a alone
--   held_out_function: that function: another than function where the choice rests on luck
--   held_out_lift: its lift on half b, in the direction chosen on half a
--   p_value: the best function's, times the functions it is the best of (Bonferroni), at most 1; NULL if unknown
--   q_value: share of false discoveries among the run's neurons with a p value up to this one; NULL likewise
--   is_significant: whether q_value is at most .05: more than chance, which texts or words alone may be; NULL likewise
--   control_lift: lift of its best control function, on the scale of its function; NULL if its function has no control
--   selectivity: lift - control_lift: what is the function's own (Hewitt and Liang 2019); NULL likewise
--   control_q_value: share of the family's neurons that reach as far as this one that controls explain; NULL likewise
--   is_selective: whether control_q_value is at most .05; NULL likewise
with families as (
    select
        best.*,
        prevalence,
        coalesce(lift(ap, ap_complement, prevalence), predictivity(ap, ap_complement)) as ranking,
    from family_best as best
    left join run_functions using (run_id, family, function)
),

best_of_neurons as (
    select
        run_id,
        stack,
        layer,
        neuron,
        min(
            {
                'p_order': p_value,
                'order': -ranking,
                'family': family,
                'function': function,
                'ap': ap,
                'ap_complement': ap_complement,
                'prevalence': prevalence,
                'lift_error': lift_error
            },
            2
        ) as bests,
        min({
            'order': -held_out_evidence,
            'family': family,
            'function': held_out_function,
            'held_out_lift': held_out_lift
        }) filter (where held_out_function is not null) as best_on_half_a,
        case when min(p_value) is not null then least(1, min(p_value) * sum(n_functions)) end as p_value,
    from families
    group by all
),

-- Neurons of one p value have one q value, so that the few p values there are stand for all neurons.
p_values as (
    select
        run_id,
        p_value,
        count(*) as n_neurons,
    from best_of_neurons
    where p_value is not null
    group by all
),

ranked as (
    select
        *,
        sum(n_neurons) over (partition by run_id) as n_tested,
        sum(n_neurons) over (partition by run_id order by p_value) as p_rank,
    from p_values
),

q_values as (
    select
        run_id,
        p_value,
        min(p_value * n_tested / p_rank)
            over (partition by run_id order by p_value desc) as q_value,
    from ranked
),

rated as (
    select
        best_of_neurons.*,
        q_value,
        bests[1] as best,
        lift(bests[1].ap, bests[1].ap_complement, bests[1].prevalence) as lift,
        lift(bests[2].ap, bests[2].ap_complement, bests[2].prevalence) as second_family_lift,
    from best_of_neurons
    left join q_values using (run_id, p_value)
)

select
    run_id,
    runs.model,
    runs.revision,
    runs.step,
    runs.corpus,
    stack,
    layer,
    neuron,
    best.family as family,
    best.function as function,
    direction(best.ap, best.ap_complement, best.prevalence) as direction,
    predictivity(best.ap, best.ap_complement) as predictivity,
    best.prevalence as prevalence,
    lift,
    best.lift_error as lift_error,
    bests[2].family as second_family,
    second_family_lift,
    lift - second_family_lift as margin,
    best_on_half_a.family as held_out_family,
    best_on_half_a.function as held_out_function,
    best_on_half_a.held_out_lift as held_out_lift,
    p_value,
    q_value,
    q_value <= 0.05 as is_significant,
    control_lift,
    lift - control_lift as selectivity,
    control_q_value,
    control_q_value <= 0.05 as is_selective,
from rated
left join runs using (run_id)
left join neuron_controls using (run_id, stack, layer, neuron)
