-- live_top_lists: which neurons come first for each function, on all instances and on either half, in runs without lists?
--
-- Computed from all scores of runs that lack rows of function_top_neurons, as those measured by an older neuronlake do.
-- min(…, n) keeps the n least structs of a group in a heap, by their first field and then their second: no sort of all
-- scores. What a query does not read of the three lists is not made.
--
-- Ranked
-- Intermediate
-- Empty without: unlisted_scores
-- Type: top struct("order" double, neuron integer, ap float, ap_complement float)[]
-- Type: top_half_a struct("order" double, neuron integer)[]
-- Type: top_half_b struct("order" double, neuron integer)[]
-- Grain: run_id, stack, layer, family, function
-- Source: unlisted_scores, run_functions, layers
-- Columns:
--   run_id, model, revision, step, stack, layer, family, function
--   top: the n_top neurons that rank highest, the highest first; ties go to the lower index
--   top_half_a: the same by the ranking on half a, of the neurons with a score on it
--   top_half_b: the same by the ranking on half b
with sizes as (
    select
        run_id,
        stack,
        layer,
        greatest(1, n_neurons // 100) as n_top,
    from layers
)

select
    run_id,
    scores.model,
    scores.revision,
    scores.step,
    stack,
    layer,
    scores.family,
    scores.function,
    min(
        {
            'order': -ranked(ranking, scores.ranking, scores.predictivity),
            'neuron': scores.neuron,
            'ap': scores.ap,
            'ap_complement': scores.ap_complement
        },
        sizes.n_top
    ) as top,
    min(
        {
            'order': -ranked(ranking, scores.ranking_half_a, scores.predictivity_half_a),
            'neuron': scores.neuron
        },
        sizes.n_top
    ) filter (where ranked(ranking, scores.ranking_half_a, scores.predictivity_half_a) is not null) as top_half_a,
    min(
        {
            'order': -ranked(ranking, scores.ranking_half_b, scores.predictivity_half_b),
            'neuron': scores.neuron
        },
        sizes.n_top
    ) filter (where ranked(ranking, scores.ranking_half_b, scores.predictivity_half_b) is not null) as top_half_b,
from scored('unlisted_scores') as scores
inner join sizes using (run_id, stack, layer)
group by all
