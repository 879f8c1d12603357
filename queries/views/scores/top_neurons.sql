-- top_neurons: which 1% of a layer's neurons detect each function best?
--
-- min(…, n) keeps the n least structs of a group in a heap: no sort of all scores. Their first field is what it
-- compares first.
--
-- Grain: run_id, stack, layer, family, function, rank
-- Source: neuron_scores, layers
-- Columns:
--   run_id, model, revision, step, stack, layer, family, function
--   rank: 1 for the neuron with the highest lift; ties go to the lower index
--   neuron, predictivity, lift, direction
--   n_top: neurons listed: 1% of the layer's, rounded down, at least 1
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
        min(
            {
                'order': -scores.ranking,
                'neuron': scores.neuron,
                'predictivity': scores.predictivity,
                'lift': scores.lift,
                'direction': scores.direction
            },
            counts.n_top
        ) as neurons,
    from neuron_scores as scores
    inner join counts using (run_id, stack, layer)
    group by all
),

ranked as (
    select
        * exclude (neurons),
        unnest(neurons) as found,
        generate_subscripts(neurons, 1) as rank,
    from tops
)

select
    run_id,
    model,
    revision,
    step,
    stack,
    layer,
    family,
    function,
    rank,
    found.neuron as neuron,
    found.predictivity as predictivity,
    found.lift as lift,
    found.direction as direction,
    n_top,
from ranked
