-- held_out_top_neurons: which 1% of a layer's neurons detect each function best on one half of the instances alone?
--
-- What is chosen on one half can be tested on the other. Neurons without a score on the half are not listed.
--
-- Ranked
-- Grain: run_id, half, stack, layer, family, function, rank
-- Source: top_lists
-- Columns:
--   run_id, model, revision, step
--   half: the half of the instances they were chosen on, a or b
--   stack, layer, family, function
--   rank: 1 for the neuron that ranks highest on the half; ties go to the lower index
--   neuron
--   n_top: neurons listed if all have a score: 1% of the layer's, rounded down, at least 1
with halves as (
    select
        *,
        unnest([{'half': 'a', 'neurons': top_half_a}, {'half': 'b', 'neurons': top_half_b}], recursive := true),
    from top_lists_by(ranking)
),

ranked as (
    select
        * exclude (neurons),
        unnest(neurons) as chosen,
        generate_subscripts(neurons, 1) as rank,
    from halves
)

select
    run_id,
    model,
    revision,
    step,
    half,
    stack,
    layer,
    family,
    function,
    rank,
    chosen.neuron as neuron,
    n_top,
from ranked
