-- live_bests: which function of each family is a neuron the best evidence of, in runs without neuron_best?
--
-- Computed from all scores of those runs, as family_best says. min compares the first field of a struct first: so the
-- best function is found in one pass without a sort, and is the same on any number of threads.
--
-- Intermediate
-- Empty without: unlisted_scores
-- Type: held_out_evidence double
-- Grain: run_id, stack, layer, neuron, family
-- Source: unlisted_scores, run_functions
-- Columns:
--   run_id, model, revision, step, stack, layer, neuron, family
--   function: the family's function with the best evidence: least p, then highest lift
--   n_functions: functions of the family, of which it is the best
--   ap, ap_complement, p_value
--   lift_error: half the distance of its lifts on the halves; NULL if one lacks it
--   second_function: the function that comes next; NULL if there is one
--   second_ap: average precision of that function; NULL likewise
--   second_ap_complement: its average precision for the negatives, NULL likewise
--   held_out_function: the function with the best evidence on half a alone; NULL if the half lacks a class of each
--   held_out_evidence: its deviations above chance on half a; NULL likewise
--   held_out_lift: its lift on half b, in the direction of half a; NULL likewise
with chosen as (
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
from chosen
