-- family_best: which function of each family is a neuron the best evidence of?
--
-- Best is what the evidence is best for: the smallest p value, then the highest lift (p is at least 1e-6). The highest
-- lift alone would be that of the function with fewest instances, where luck reaches furthest. Half a alone chooses by
-- how many deviations of chance a score lies above it. Where these are unknown, as of imported results, the ranking
-- decides. Ties go to the first function by name. Stored as neuron_best; computed from all scores of runs that lack it.
-- min compares the first field of a struct first: so the best function is found in one pass without a sort, and is the
-- same on any number of threads.
--
-- Intermediate
-- Grain: run_id, stack, layer, neuron, family
-- Source: neuron_best, unlisted_scores, run_functions
-- Columns:
--   run_id, model, revision, step, stack, layer, neuron, family, function, n_functions, ap, ap_complement, p_value
--   lift_error, second_function, second_ap, second_ap_complement, held_out_function, held_out_evidence, held_out_lift
with live as (
    select
        run_id,
        model,
        revision,
        step,
        stack,
        layer,
        neuron,
        family,
        min(
            {
                'p_order': p_value,
                'order': -ranking,
                'function': function,
                'ap': ap,
                'ap_complement': ap_complement,
                'p_value': p_value,
                'lift_error': lift_error
            },
            2
        ) as bests,
        min({
            'order': -coalesce(evidence_half_a, ranking_half_a),
            'function': function,
            'held_out_lift': held_out_lift_b
        }) filter (where ranking_half_a is not null) as best_on_half_a,
        count(*) as n_functions,
    from scored('unlisted_scores')
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
    family,
    function,
    n_functions,
    ap,
    ap_complement,
    p_value,
    lift_error,
    second_function,
    second_ap,
    second_ap_complement,
    held_out_function,
    held_out_evidence,
    held_out_lift,
from neuron_best
union all
select
    run_id,
    model,
    revision,
    step,
    stack,
    layer,
    neuron,
    family,
    bests[1].function as function,
    n_functions::int as n_functions,
    bests[1].ap as ap,
    bests[1].ap_complement as ap_complement,
    bests[1].p_value as p_value,
    bests[1].lift_error as lift_error,
    bests[2].function as second_function,
    bests[2].ap as second_ap,
    bests[2].ap_complement as second_ap_complement,
    best_on_half_a.function as held_out_function,
    -best_on_half_a."order" as held_out_evidence,
    best_on_half_a.held_out_lift::float as held_out_lift,
from live
