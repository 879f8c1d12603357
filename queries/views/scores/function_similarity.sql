-- function_similarity: do two functions share their top neurons?
--
-- The overlap of the k best neurons of two functions, where k is a 96th of the layer: by predictivity this is the
-- similarity of the paper. Unrelated functions overlap by chance in k / n_neurons. Each unordered pair of functions has
-- one row.
--
-- Ranked
-- By run
-- Grain: run_id, stack, layer, family_a, function_a, family_b, function_b
-- Source: neuron_scores, layers
-- Columns:
--   run_id, model, revision, step, stack, layer
--   family_a: family of the first function
--   function_a: the first function, before the second by family and name
--   family_b: family of the second function
--   function_b: the second function
--   overlap: share of the k top neurons that both have, 0 to 1
--   n_shared: top neurons that both have
--   k: top neurons compared
--   chance: overlap of unrelated functions: k / n_neurons
with counts as (
    select
        run_id,
        stack,
        layer,
        n_neurons,
        greatest(1, n_neurons // 96) as k,
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
        counts.k,
        counts.n_neurons,
        min({'order': -ranked(ranking, scores.ranking, scores.predictivity), 'neuron': scores.neuron}, counts.k) as best,
    from neuron_scores as scores
    inner join counts using (run_id, stack, layer)
    group by all
),

-- Pairs come from one list a layer, not from a join of tops with itself: a filter on a checkpoint then reaches
-- the files.
tops_of_layers as (
    select
        * exclude (family, function, best),
        list({
            'family': family,
            'function': function,
            'neurons': list_transform(best, lambda top: top.neuron)
        }) as tops,
    from tops
    group by all
),

firsts as (
    select
        *,
        unnest(tops) as a,
    from tops_of_layers
),

pairs as (
    select
        * exclude (tops),
        unnest(tops) as b,
    from firsts
),

shared as (
    select
        *,
        len(list_intersect(a.neurons, b.neurons)) as n_shared,
    from pairs
    where (a.family, a.function) < (b.family, b.function)
)

select
    run_id,
    model,
    revision,
    step,
    stack,
    layer,
    a.family as family_a,
    a.function as function_a,
    b.family as family_b,
    b.function as function_b,
    n_shared / k as overlap,
    n_shared,
    k,
    k / n_neurons as chance,
from shared
