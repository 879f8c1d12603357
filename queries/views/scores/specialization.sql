-- specialization: which function does each neuron detect best, and by how much?
--
-- Best is what the evidence is best for: the smallest p value, then the highest lift (p is at least 1e-6). The highest
-- lift alone would be that of the function with fewest instances, where luck reaches furthest. Half a alone chooses by
-- how many deviations of chance a score lies above it. Where these are unknown, as of imported results, the ranking
-- decides. Ties go to the first family and function by name. min compares the first field of a struct first: so the best
-- function is found in one pass without a sort, and is the same on any number of threads.
--
-- Grain: run_id, stack, layer, neuron
-- Source: neuron_scores, runs
-- Columns:
--   run_id, model, revision, step, corpus, stack, layer, neuron
--   family: family of the best function
--   function: the best function, by evidence
--   direction: positive or complement: whether activation marks the function's positives or negatives; NULL if unknown
--   predictivity: predictivity of the best function
--   prevalence: share of positives of the best function, NULL when unknown
--   lift: lift of the best function, NULL when its prevalence is unknown
--   second_family: the family whose best function comes next, NULL when there is one family
--   second_family_lift: lift of that family's best function
--   margin: lift - second_family_lift, below 0 where the second family has more lift and less evidence
--   held_out_family: family of the function chosen by evidence on half a alone
--   held_out_function: that function: another than function where the choice rests on luck
--   held_out_lift: its lift on half b, in the direction chosen on half a
--   p_value: the best function's, times the functions it is the best of (Bonferroni), at most 1; NULL if unknown
--   q_value: share of false discoveries among the run's neurons with a p value up to this one; NULL likewise
--   is_significant: whether q_value is at most .05; NULL likewise
with best_of_families as (
    select
        run_id,
        model,
        revision,
        step,
        stack,
        layer,
        neuron,
        family,
        min({
            'p_order': p_value,
            'order': -ranking,
            'family': family,
            'function': function,
            'direction': direction,
            'predictivity': predictivity,
            'prevalence': prevalence,
            'lift': lift,
            'p_value': p_value
        }) as best,
        min({
            'order': -coalesce(evidence_half_a, ranking_half_a),
            'family': family,
            'function': function,
            'held_out_lift': held_out_lift_b
        }) filter (where ranking_half_a is not null) as best_on_half_a,
        count(*) as n_functions,
    from neuron_scores
    group by all
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
        min(best, 2) as bests,
        min(best_on_half_a) as best_on_half_a,
        case when min(best).p_value is not null then least(1, min(best).p_value * sum(n_functions)) end as p_value,
    from best_of_families
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
    bests[2].family as second_family,
    bests[2].lift as second_family_lift,
    bests[1].lift - bests[2].lift as margin,
    best_on_half_a.family as held_out_family,
    best_on_half_a.function as held_out_function,
    best_on_half_a.held_out_lift as held_out_lift,
    p_value,
    q_value,
    q_value <= 0.05 as is_significant,
from benjamini_hochberg('best_of_neurons', p_value, run_id, model, revision, step) as neurons
left join runs using (run_id)
