-- emergence_scores: how do neurons of some layers score in a run, as unstored_stability takes it?
--
-- Not from neuron_scores, which joins to each score all that it knows of a function: that takes half as long again.
--
-- Parameters:
--   $runs: runs of the series
--   $run: the run
--   $stack: encoder or decoder
--   $layers: the layers
-- Columns:
--   layer, neuron
--   place: of the function, among those of all the runs by family and name, from 0
--   score, score_a, score_b: signed lift, on all instances and on both halves, in billionths
--   predictivity: in billionths
with functions as (
    select
        family,
        function,
        prevalence,
        n_positive_half_a / nullif(n_positive_half_a + n_negative_half_a, 0) as prevalence_half_a,
        n_positive_half_b / nullif(n_positive_half_b + n_negative_half_b, 0) as prevalence_half_b,
        (dense_rank() over (order by family, function) - 1)::int as place,
    from run_functions
    where run_id in $runs
    qualify run_id = $run
)

select
    layer,
    neuron,
    place,
    billionths(signed_lift(ap, ap_complement, prevalence)) as score,
    billionths(signed_lift(ap_half_a, ap_complement_half_a, prevalence_half_a)) as score_a,
    billionths(signed_lift(ap_half_b, ap_complement_half_b, prevalence_half_b)) as score_b,
    billionths(predictivity(ap, ap_complement)) as predictivity,
from neuron_functions
inner join functions using (family, function)
where run_id = $run and stack = $stack and layer in $layers
