-- held_out_top_neurons: which 1% of a layer's neurons detect each function best on one half of the instances alone?
--
-- What is chosen on one half can be tested on the other. Neurons without a score on the half are not listed.
--
-- Ranked
-- By run
-- Grain: run_id, half, stack, layer, family, function, rank
-- Source: function_top_neurons, live_top_lists, layers
-- Columns:
--   run_id, model, revision, step
--   half: the half of the instances they were chosen on, a or b
--   stack, layer, family, function
--   rank: 1 for the neuron that ranks highest on the half; ties go to the lower index
--   neuron
--   n_top: neurons listed if all have a score: 1% of the layer's, rounded down, at least 1
with live_halves as (
    select
        * exclude (top, top_half_a, top_half_b),
        unnest([{'half': 'a', 'neurons': top_half_a}, {'half': 'b', 'neurons': top_half_b}], recursive := true),
    from live_top_lists_by(ranking)
),

live as (
    select
        * exclude (neurons),
        unnest(neurons, recursive := true),
        generate_subscripts(neurons, 1) as rank,
    from live_halves
),

listed as (
    select * exclude (ranked_by, ap, ap_complement)
    from function_top_neurons
    where half != 'all' and ranked_by = ranked(ranking, 'lift', 'predictivity')
    union all by name
    select * exclude ("order")
    from live
)

select
    run_id,
    listed.model,
    listed.revision,
    listed.step,
    half,
    stack,
    layer,
    family,
    function,
    rank,
    neuron,
    greatest(1, n_neurons // 100) as n_top,
from listed
inner join layers using (run_id, stack, layer)
