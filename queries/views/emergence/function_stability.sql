-- function_stability: how similar are neurons', experts' and random groups' scores for a function at two checkpoints?
--
-- checkpoint_stability averages these rows over the functions of a family, stability_curves over layers as well. Only
-- neurons alive at both checkpoints count (compared_layers says which). A unit is such a
-- neuron, scored by its signed lift, or an expert, scored by the mean over those of its neurons: a neuron that detects a
-- function at one checkpoint and its complement at the other has changed. Both runs must have the same neurons by index,
-- so layers of equal width. Without any variation in a run's scores there is no correlation; if a half lacks a class
-- there is none of that half. paper_correlation is that of Zhang et al. 2023: of predictivity, which has no sign, and
-- over all neurons, dead ones too. Partitions of any revision are used (partitions_of_runs).
--
-- Grain: last_run_id, run_id, reference, level, partition_id, stack, layer, family, function
-- Source: compared_layers, neuron_scores, partitions_of_runs, experts
-- Columns:
--   last_run_id, run_id, model, revision, step, corpus, reference, reference_run_id, reference_revision
--   reference_step
--   level: neuron; expert; or random_group: an expert of a partition of method random or matched
--   partition_id: the partition, * of neurons
--   partition_step: training step of the revision it partitions, NULL when unknown and of neurons
--   method: how it was made, NULL of neurons
--   stack, layer, family, function
--   n_units: neurons or experts compared; experts without a living neuron are not
--   n_dead: neurons left out, as they are dead at either, of those in an expert; NULL if unknown of either
--   correlation: Spearman correlation of the units' scores at both, uncorrected
--   split_half_correlation: Spearman correlation of the scores on half a and on half b
--   reference_split_half_correlation: the same of the reference
--   cross_half_correlation: mean correlation of half a of one with half b of the other, both ways
--   paper_correlation: Spearman correlation of predictivity at both, of all neurons or of experts' means over all
--   has_twin
with sets as (
    -- What is alive at both, for each checkpoint that this one is compared with: mostly one set.
    select distinct
        unnest([run_id, reference_run_id]) as run_id,
        model,
        stack,
        layer,
        dead,
        dead_hash,
    from compared_layers
),

-- Whole billionths: their sums do not depend on the order, equal experts stay equal, and lists take half the memory.
of_neurons as (
    select
        run_id,
        model,
        stack,
        layer,
        family,
        function,
        list_sort(
            list(
                {
                    'unit': neuron,
                    'score': billionths(signed_lift),
                    'score_a': billionths(signed_lift_half_a),
                    'score_b': billionths(signed_lift_half_b),
                    'predictivity': billionths(predictivity)
                }
            )
        ) as scored,
    from neuron_scores
    where run_id in (select run_id from sets)
    group by all
),

members as (
    select
        sets.* exclude (dead),
        partition_id,
        partition_step,
        method,
        experts.expert,
        experts.neuron,
        not list_contains(dead, experts.neuron) as is_living,
    from sets
    inner join partitions_of_runs using (run_id, model, stack, layer)
    inner join experts using (partition_id, stack, layer)
),

of_experts as (
    select
        run_id,
        model,
        partition_id,
        partition_step,
        method,
        stack,
        layer,
        dead_hash,
        family,
        function,
        expert,
        avg(billionths(signed_lift)) filter (where is_living) as score,
        avg(billionths(signed_lift_half_a)) filter (where is_living) as score_a,
        avg(billionths(signed_lift_half_b)) filter (where is_living) as score_b,
        avg(billionths(predictivity)) as predictivity,
        count(*) filter (where not is_living) as n_dead,
        count(*) filter (where is_living) as n_living,
    from neuron_scores
    inner join members using (run_id, model, stack, layer, neuron)
    group by all
),

-- A row a function, as lists over the units.
listed as (
    select
        run_id,
        model,
        '*' as partition_id,
        null::bigint as partition_step,
        null::varchar as method,
        stack,
        layer,
        family,
        function,
        dead_hash,
        len(scored) as n_neurons,
        len(dead) as n_dead,
        list_transform(scored, lambda each: each.predictivity) as predictivities,
        if(len(dead) = 0, scored, list_filter(scored, lambda each: not list_contains(dead, each.unit))) as scored,
    from of_neurons
    inner join sets using (run_id, model, stack, layer)
    union all by name
    select
        * exclude (expert, score, score_a, score_b, predictivity, n_dead, n_living),
        sum(n_dead)::bigint as n_dead,
        sum(n_dead + n_living)::bigint as n_neurons,
        list(round(predictivity)::int order by expert) as predictivities,
        list_sort(
            list(
                {
                    'unit': expert,
                    'score': round(score)::int,
                    'score_a': round(score_a)::int,
                    'score_b': round(score_b)::int
                }
            ) filter (where n_living > 0)
        ) as scored,
    from of_experts
    group by all
),

ranked as materialized (
    select
        * exclude (scored, predictivities),
        list_transform(
            [
                list_transform(scored, lambda each: each.score),
                list_transform(scored, lambda each: each.score_a),
                list_transform(scored, lambda each: each.score_b),
                predictivities
            ],
            lambda scores: centred_ranks(scores::bigint[])
        ) as ranks,
    from listed
)

select
    last_run_id,
    pairs.run_id,
    model,
    revision,
    step,
    corpus,
    reference,
    reference_run_id,
    reference_revision,
    reference_step,
    case
        when partition_id = '*' then 'neuron'
        when ranked.method in ('random', 'matched') then 'random_group'
        else 'expert'
    end as level,
    partition_id,
    ranked.partition_step,
    ranked.method,
    stack,
    layer,
    family,
    function,
    len(ranked.ranks[1]) as n_units,
    if(is_known, ranked.n_dead, null) as n_dead,
    spearman(ranked.ranks[1], other.ranks[1]) as correlation,
    spearman(ranked.ranks[2], ranked.ranks[3]) as split_half_correlation,
    spearman(other.ranks[2], other.ranks[3]) as reference_split_half_correlation,
    (spearman(ranked.ranks[2], other.ranks[3]) + spearman(ranked.ranks[3], other.ranks[2])) / 2
    as cross_half_correlation,
    spearman(ranked.ranks[4], other.ranks[4]) as paper_correlation,
    has_twin,
from compared_layers as pairs
inner join ranked using (run_id, model, stack, layer, dead_hash)
inner join ranked as other using (model, partition_id, stack, layer, dead_hash, family, function)
where other.run_id = reference_run_id and other.n_neurons = ranked.n_neurons
