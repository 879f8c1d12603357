-- top_neurons: which 1% of a layer's neurons detect each function best?
--
-- By lift both directions count alike. The paper takes predictivity, which is nearly always that of the commoner class
-- where classes are unbalanced: the two lists share little then. With balanced classes they are the same.
--
-- Ranked
-- By run
-- Grain: run_id, stack, layer, family, function, rank
-- Source: function_top_neurons, live_top_lists, layers, run_functions
-- Columns:
--   run_id, model, revision, step, stack, layer, family, function
--   rank: 1 for the neuron that ranks highest; ties go to the lower index
--   neuron
--   predictivity: the better of the two average precisions
--   lift: rise above chance in the better direction, as a share of the most possible; NULL when the prevalence is
--   direction: positive or complement, whichever rises higher above chance; NULL where ap_complement is
--   n_top: neurons listed: 1% of the layer's, rounded down, at least 1
with live as (
    select
        * exclude (top, top_half_a, top_half_b),
        unnest(top, recursive := true),
        generate_subscripts(top, 1) as rank,
    from live_top_lists_by(ranking)
),

listed as (
    select * exclude (ranked_by, half)
    from function_top_neurons
    where half = 'all' and ranked_by = ranked(ranking, 'lift', 'predictivity')
    union all by name
    select * exclude ("order")
    from live
)

select
    run_id,
    listed.model,
    listed.revision,
    listed.step,
    stack,
    layer,
    family,
    function,
    rank,
    neuron,
    predictivity(ap, ap_complement) as predictivity,
    lift(ap, ap_complement, prevalence) as lift,
    direction(ap, ap_complement, prevalence) as direction,
    greatest(1, n_neurons // 100) as n_top,
from listed
inner join layers using (run_id, stack, layer)
left join run_functions using (run_id, family, function)
