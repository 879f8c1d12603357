-- neuron_scores: how well does each neuron detect each function, above chance?
--
-- Scores together with the prevalence of the function, for all views that rank neurons. They order by ranking: the
-- lift, or the predictivity where the prevalence is unknown (results imported without their labels).
--
-- Grain: run_id, stack, layer, neuron, family, function
-- Source: neuron_functions, run_functions
-- Columns:
--   run_id, model, revision, step, stack, layer, neuron, family, function, ap, ap_complement
--   prevalence: share of positives, NULL when unknown
--   direction: positive or complement, whichever rises higher above chance; NULL where ap_complement is
--   predictivity: the better of the two average precisions
--   lift: rise above chance in the better direction, as a share of the most possible; NULL when prevalence is
--   ranking: lift, or predictivity where lift is NULL
--   predictivity_half_a: predictivity on half a, NULL if the half lacks a class
--   predictivity_half_b: predictivity on half b, NULL if the half lacks a class
--   lift_half_a: lift on half a, by the prevalence of that half; NULL if either is unknown
--   lift_half_b: lift on half b, likewise
--   ranking_half_a: lift_half_a, or predictivity_half_a where the prevalence is unknown
--   ranking_half_b: lift_half_b, or predictivity_half_b likewise
--   evidence_half_a: how many deviations of chance the better direction is above chance on half a; NULL likewise
--   evidence_half_b: the same on half b
--   signed_lift: lift, its sign changed where direction is complement; that at a prevalence of .5 if unknown
--   signed_lift_half_a: the same on half a, NULL if the half lacks a class
--   signed_lift_half_b: the same on half b, likewise
--   held_out_predictivity_a: average precision on half a in the direction that is better on half b
--   held_out_predictivity_b: average precision on half b in the direction that is better on half a
--   held_out_lift_a: lift on half a in the direction whose lift is better on half b
--   held_out_lift_b: lift on half b in the direction whose lift is better on half a
--   p_value
with counts as (
    select
        *,
        nullif(n_positive_half_a + n_negative_half_a, 0) as n_half_a,
        nullif(n_positive_half_b + n_negative_half_b, 0) as n_half_b,
        harmonic(n_half_a) as h_half_a,
        harmonic(n_half_b) as h_half_b,
        harmonic_squares(n_half_a) as h2_half_a,
        harmonic_squares(n_half_b) as h2_half_b,
    from run_functions
),

prevalences as (
    select
        run_id,
        family,
        function,
        prevalence,
        n_positive_half_a / n_half_a as prevalence_half_a,
        n_positive_half_b / n_half_b as prevalence_half_b,
        chance_ap(n_positive_half_a, n_half_a, h_half_a) as chance_half_a,
        chance_ap(n_negative_half_a, n_half_a, h_half_a) as chance_complement_half_a,
        chance_ap_deviation(n_positive_half_a, n_half_a, h_half_a, h2_half_a) as deviation_half_a,
        chance_ap_deviation(n_negative_half_a, n_half_a, h_half_a, h2_half_a) as deviation_complement_half_a,
        chance_ap(n_positive_half_b, n_half_b, h_half_b) as chance_half_b,
        chance_ap(n_negative_half_b, n_half_b, h_half_b) as chance_complement_half_b,
        chance_ap_deviation(n_positive_half_b, n_half_b, h_half_b, h2_half_b) as deviation_half_b,
        chance_ap_deviation(n_negative_half_b, n_half_b, h_half_b, h2_half_b) as deviation_complement_half_b,
    from counts
)

select
    scores.run_id,
    scores.model,
    scores.revision,
    scores.step,
    scores.stack,
    scores.layer,
    scores.neuron,
    scores.family,
    scores.function,
    scores.ap,
    scores.ap_complement,
    prevalences.prevalence,
    case
        when scores.ap - coalesce(prevalence, 0.5) >= scores.ap_complement - (1 - coalesce(prevalence, 0.5))
            then 'positive'
        when scores.ap_complement is not null then 'complement'
    end as direction,
    predictivity(scores.ap, scores.ap_complement) as predictivity,
    lift(scores.ap, scores.ap_complement, prevalence) as lift,
    coalesce(
        lift(scores.ap, scores.ap_complement, prevalence),
        predictivity(scores.ap, scores.ap_complement)
    ) as ranking,
    predictivity(scores.ap_half_a, scores.ap_complement_half_a) as predictivity_half_a,
    predictivity(scores.ap_half_b, scores.ap_complement_half_b) as predictivity_half_b,
    lift(scores.ap_half_a, scores.ap_complement_half_a, prevalence_half_a) as lift_half_a,
    lift(scores.ap_half_b, scores.ap_complement_half_b, prevalence_half_b) as lift_half_b,
    coalesce(
        lift(scores.ap_half_a, scores.ap_complement_half_a, prevalence_half_a),
        predictivity(scores.ap_half_a, scores.ap_complement_half_a)
    ) as ranking_half_a,
    coalesce(
        lift(scores.ap_half_b, scores.ap_complement_half_b, prevalence_half_b),
        predictivity(scores.ap_half_b, scores.ap_complement_half_b)
    ) as ranking_half_b,
    greatest(
        (scores.ap_half_a - chance_half_a) / nullif(deviation_half_a, 0),
        (scores.ap_complement_half_a - chance_complement_half_a) / nullif(deviation_complement_half_a, 0)
    ) as evidence_half_a,
    greatest(
        (scores.ap_half_b - chance_half_b) / nullif(deviation_half_b, 0),
        (scores.ap_complement_half_b - chance_complement_half_b) / nullif(deviation_complement_half_b, 0)
    ) as evidence_half_b,
    signed_lift(scores.ap, scores.ap_complement, prevalence) as signed_lift,
    signed_lift(scores.ap_half_a, scores.ap_complement_half_a, prevalence_half_a) as signed_lift_half_a,
    signed_lift(scores.ap_half_b, scores.ap_complement_half_b, prevalence_half_b) as signed_lift_half_b,
    in_direction(
        scores.ap_half_b - scores.ap_complement_half_b, scores.ap_half_a, scores.ap_complement_half_a
    ) as held_out_predictivity_a,
    in_direction(
        scores.ap_half_a - scores.ap_complement_half_a, scores.ap_half_b, scores.ap_complement_half_b
    ) as held_out_predictivity_b,
    in_direction(
        scores.ap_half_b - scores.ap_complement_half_b + 1 - 2 * prevalence_half_b,
        scores.ap_half_a - prevalence_half_a,
        scores.ap_complement_half_a - (1 - prevalence_half_a)
    ) / greatest(prevalence_half_a, 1 - prevalence_half_a) as held_out_lift_a,
    in_direction(
        scores.ap_half_a - scores.ap_complement_half_a + 1 - 2 * prevalence_half_a,
        scores.ap_half_b - prevalence_half_b,
        scores.ap_complement_half_b - (1 - prevalence_half_b)
    ) / greatest(prevalence_half_b, 1 - prevalence_half_b) as held_out_lift_b,
    scores.p_value,
from neuron_functions as scores
left join prevalences using (run_id, family, function)
