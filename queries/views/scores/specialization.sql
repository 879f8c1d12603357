-- specialization: which function does each neuron detect best, and by how much?
--
-- Best is what the evidence is best for, as in family_best: the smallest p value, then the highest lift. Ties go to the
-- first family by name.
--
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
--   control_lift: lift of its best control function, of the control it detects best; NULL if its function has no control
--   selectivity: lift - control_lift: what is the function's own (Hewitt and Liang 2019); NULL likewise
--   control_q_value: share of neurons as specialised as this one that controls explain; NULL likewise
--   is_selective: whether control_q_value is at most .05; NULL likewise
with families as (
    select
        best.*,
        prevalence,
        lift(ap, ap_complement, prevalence) as lift,
        predictivity(ap, ap_complement) as predictivity,
    from family_best as best
    left join run_functions using (run_id, family, function)
),

best_of_neurons as (
    select
        run_id,
        model,
        revision,
        step,
        stack,
        layer,
        neuron,
        min(
            {
                'p_order': p_value,
                'order': -coalesce(lift, predictivity),
                'family': family,
                'function': function,
                'direction': direction(ap, ap_complement, prevalence),
                'predictivity': predictivity,
                'prevalence': prevalence,
                'lift': lift,
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
)

select
    run_id,
    neurons.model,
    neurons.revision,
    neurons.step,
    runs.corpus,
    stack,
    layer,
    neuron,
    bests[1].family as family,
    bests[1].function as function,
    bests[1].direction as direction,
    bests[1].predictivity as predictivity,
    bests[1].prevalence as prevalence,
    bests[1].lift as lift,
    bests[1].lift_error as lift_error,
    bests[2].family as second_family,
    bests[2].lift as second_family_lift,
    bests[1].lift - bests[2].lift as margin,
    best_on_half_a.family as held_out_family,
    best_on_half_a.function as held_out_function,
    best_on_half_a.held_out_lift as held_out_lift,
    p_value,
    q_value,
    q_value <= 0.05 as is_significant,
    control_lift,
    bests[1].lift - control_lift as selectivity,
    control_q_value,
    control_q_value <= 0.05 as is_selective,
from benjamini_hochberg('best_of_neurons', p_value, run_id, model, revision, step) as neurons
left join runs using (run_id)
left join neuron_controls using (run_id, stack, layer, neuron)
