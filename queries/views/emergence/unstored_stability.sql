-- unstored_stability: how similar are scores at two checkpoints, where table stabilities does not hold it?
--
-- The definition of that table: what it holds was selected from here. A unit is a neuron alive at both checkpoints,
-- scored by its signed lift, or an expert, scored by the mean over those of its neurons. Without any variation in a
-- run's scores there is no correlation; if a half lacks a class there is none of that half.
--
-- Intermediate
-- Grain: run_id, reference_run_id, partition_id, stack, layer, family, function
-- Source: compared_layers, neuron_scores, experts
-- Columns:
--   run_id, model, revision, step, reference_run_id
--   partition_id, stack, layer, family, function, n_units, n_dead, correlation, correlation_half_a, correlation_half_b
--   split_half_correlation, reference_split_half_correlation, cross_half_correlation, paper_correlation
with pairs as (
    select
        * exclude (partition_ids),
        unnest(partition_ids) as partition_id,
    from compared_layers
),

-- What is alive at both, for each checkpoint that this one is compared with: mostly one set.
sets as (
    select
        run_id,
        model,
        stack,
        layer,
        partition_id,
        dead_hash,
        any_value(dead) as dead,
    from (select * replace (unnest([run_id, reference_run_id]) as run_id) from pairs)
    group by all
),

-- Named once, for both kinds of units: views are bound faster.
scores as not materialized (
    select
        run_id,
        model,
        stack,
        layer,
        neuron,
        family,
        function,
        signed_lift as score,
        signed_lift_half_a as score_a,
        signed_lift_half_b as score_b,
        predictivity,
    from neuron_scores
),

-- Whole billionths: their sums do not depend on the order, equal experts stay equal, and lists take half the memory.
of_neurons as (
    select
        * exclude (neuron, score, score_a, score_b, predictivity),
        list_sort(
            list(
                {
                    'unit': neuron,
                    'score': billionths(score),
                    'score_a': billionths(score_a),
                    'score_b': billionths(score_b),
                    'predictivity': billionths(predictivity)
                }
            )
        ) as scored,
    from scores
    where run_id in (select run_id from sets where partition_id = '*')
    group by all
),

members as (
    select
        sets.* exclude (dead),
        experts.expert,
        experts.neuron,
        not list_contains(dead, experts.neuron) as is_living,
    from sets
    inner join experts using (partition_id, stack, layer)
),

of_experts as (
    select
        members.* exclude (neuron, is_living),
        family,
        function,
        avg(billionths(score)) filter (where is_living) as score,
        avg(billionths(score_a)) filter (where is_living) as score_a,
        avg(billionths(score_b)) filter (where is_living) as score_b,
        avg(billionths(predictivity)) as predictivity,
        count(*) filter (where not is_living) as n_dead,
        count(*) filter (where is_living) as n_living,
    from scores
    inner join members using (run_id, model, stack, layer, neuron)
    group by all
),

-- A row a function, as lists over the units.
listed as (
    select
        run_id,
        model,
        partition_id,
        stack,
        layer,
        dead_hash,
        family,
        function,
        len(dead) as n_dead,
        list_transform(scored, lambda each: each.predictivity) as predictivities,
        if(len(dead) = 0, scored, list_filter(scored, lambda each: not list_contains(dead, each.unit))) as scored,
    from of_neurons
    inner join sets using (run_id, model, stack, layer)
    where partition_id = '*'
    union all by name
    select
        * exclude (expert, score, score_a, score_b, predictivity, n_dead, n_living),
        sum(n_dead)::bigint as n_dead,
        list(round(predictivity)::int order by expert) as predictivities,
        coalesce(
            list_sort(
                list(
                    {
                        'unit': expert,
                        'score': round(score)::int,
                        'score_a': round(score_a)::int,
                        'score_b': round(score_b)::int
                    }
                ) filter (where n_living > 0)
            ),
            []
        ) as scored,
    from of_experts
    group by all
),

-- All ranks of a function, and what to compare with what, a row each: ranks are held once, and a filter on partitions
-- reaches the scores, as it would not if ranks were joined with ranks.
of_runs as (
    select
        * exclude (run_id, n_dead, scored, predictivities),
        map_from_entries(
            list(
                (
                    run_id,
                    {
                        'n_dead': n_dead,
                        'ranks': list_transform(
                            [
                                list_transform(scored, lambda each: each.score),
                                list_transform(scored, lambda each: each.score_a),
                                list_transform(scored, lambda each: each.score_b),
                                predictivities
                            ],
                            lambda scores: centred_ranks(scores::bigint[])
                        )
                    }
                )
            )
        ) as runs,
    from listed
    group by all
),

compared as (
    select
        model,
        partition_id,
        stack,
        layer,
        dead_hash,
        list(
            {
                'run_id': run_id,
                'revision': revision,
                'step': step,
                'reference_run_id': reference_run_id,
                'is_known': is_known
            }
        ) as compared,
    from pairs
    group by all
),

paired as (
    select
        * exclude (runs),
        runs[run_id] as own,
        runs[reference_run_id] as other,
    from (
        select
            * exclude (dead_hash, compared),
            unnest(compared, max_depth := 2),
        from of_runs
        inner join compared using (model, partition_id, stack, layer, dead_hash)
    )
)

select
    run_id,
    model,
    revision,
    step,
    reference_run_id,
    partition_id,
    stack,
    layer,
    family,
    function,
    len(own.ranks[1]) as n_units,
    if(is_known, own.n_dead, null) as n_dead,
    spearman(own.ranks[1], other.ranks[1]) as correlation,
    spearman(own.ranks[2], other.ranks[2]) as correlation_half_a,
    spearman(own.ranks[3], other.ranks[3]) as correlation_half_b,
    spearman(own.ranks[2], own.ranks[3]) as split_half_correlation,
    spearman(other.ranks[2], other.ranks[3]) as reference_split_half_correlation,
    (spearman(own.ranks[2], other.ranks[3]) + spearman(own.ranks[3], other.ranks[2])) / 2
    as cross_half_correlation,
    spearman(own.ranks[4], other.ranks[4]) as paper_correlation,
from paired
where own is not null and other is not null
