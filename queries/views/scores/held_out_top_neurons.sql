-- held_out_top_neurons: which 1% of a layer's neurons detect each function best on one half of the texts alone?
--
-- What is chosen on one half can be tested on the other. Neurons without a score on the half are not listed.
--
-- Grain: run_id, half, stack, layer, family, function, rank
-- Source: neuron_scores, layers
-- Columns:
--   run_id, model, revision, step
--   half: the half of the texts they were chosen on, a or b
--   stack, layer, family, function
--   rank: 1 for the neuron that ranks highest on the half; ties go to the lower index
--   neuron
--   n_top: neurons listed if all have a score: 1% of the layer's, rounded down, at least 1
with counts as (
    select
        run_id,
        stack,
        layer,
        greatest(1, n_neurons // 100) as n_top,
    from layers
),

tops as (
    select
        run_id,
        scores.model,
        scores.revision,
        scores.step,
        stack,
        layer,
        scores.family,
        scores.function,
        counts.n_top,
        min({'order': -scores.ranking_half_a, 'neuron': scores.neuron}, counts.n_top)
            filter (where scores.ranking_half_a is not null) as on_half_a,
        min({'order': -scores.ranking_half_b, 'neuron': scores.neuron}, counts.n_top)
            filter (where scores.ranking_half_b is not null) as on_half_b,
    from neuron_scores as scores
    inner join counts using (run_id, stack, layer)
    group by all
),

halves as (
    select
        * exclude (on_half_a, on_half_b),
        unnest([{'half': 'a', 'neurons': on_half_a}, {'half': 'b', 'neurons': on_half_b}], recursive := true),
    from tops
),

ranked as (
    select
        * exclude (neurons),
        unnest(neurons) as found,
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
    found.neuron as neuron,
    n_top,
from ranked
