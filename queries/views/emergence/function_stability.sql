-- function_stability: how similar are neurons', experts' and random groups' scores for a function at two checkpoints?
--
-- checkpoint_stability averages these rows over the functions of a family, stability_curves over layers as well. A
-- series is the measured runs of one model that differ in step alone; if a step has several revisions, the first by
-- name counts. A unit is a neuron, scored by its ranking, or an expert, scored by the mean ranking of its neurons. Both
-- runs must have the same units by index, so layers of equal width. Without any variation in a run's scores there is no
-- correlation; if a half lacks a class there is none of that half. Partitions of any revision are used
-- (partitions_of_runs).
--
-- Grain: last_run_id, run_id, reference, level, partition_id, stack, layer, family, function
-- Source: neuron_scores, runs, partitions_of_runs, experts
-- Columns:
--   last_run_id: the series, by the run of its last step
--   run_id, model, revision, step, corpus
--   reference: previous (the step before in the series) or last
--   reference_run_id: the run it is compared to
--   reference_revision: revision of that run
--   reference_step: its training step
--   level: neuron; expert; or random_group: an expert of a partition of method random or matched
--   partition_id: the partition, * of neurons
--   partition_step: training step of the revision it partitions, NULL when unknown and of neurons
--   method: how it was made, NULL of neurons
--   stack, layer, family, function
--   n_units: neurons or experts compared
--   correlation: Spearman correlation of the units' scores at both, uncorrected
--   split_half_correlation: Spearman correlation of the scores on half a and on half b
--   reference_split_half_correlation: the same of the reference
--   cross_half_correlation: mean correlation of half a of one with half b of the other, both ways
--   has_twin: whether either has the weights of another checkpoint of the series: one of the two has a wrong name
with measurements as (
    select
        run_id,
        model,
        revision,
        step,
        weights_sha256,
        corpus,
        corpus_sha256,
        site,
        pooling,
        coalesce(special_tokens, 'drop') as special_tokens,
        coalesce(halves, 'text') as halves,
        router,
        dtype,
        storage,
        max_tokens,
        layers as layers_asked,
    from runs
    where measurement = 'measured' and not is_random_init and step is not null
    qualify row_number() over (
        partition by
            model, corpus, corpus_sha256, site, pooling, special_tokens, halves, router, dtype, storage, max_tokens,
            layers_asked, step
        order by revision, run_id
    ) = 1
),

checkpoints as (
    select
        run_id,
        model,
        {
            'run_id': run_id,
            'revision': revision,
            'step': step,
            'has_twin': count(weights_sha256) over (
                partition by
                    model, corpus, corpus_sha256, site, pooling, special_tokens, halves, router, dtype, storage,
                    max_tokens, layers_asked, weights_sha256
            ) > 1
        } as checkpoint,
        corpus,
        lag(run_id) over series as previous_run_id,
        last_value(run_id) over (
            series rows between unbounded preceding and unbounded following
        ) as last_run_id,
    from measurements
    window series as (
        partition by
            model, corpus, corpus_sha256, site, pooling, special_tokens, halves, router, dtype, storage, max_tokens,
            layers_asked
        order by step
    )
),

-- Decimals: their sums do not depend on the order, and equal experts stay equal.
of_experts as (
    select
        last_run_id,
        run_id,
        model,
        partition_id,
        layers.partition_step,
        layers.method,
        stack,
        layer,
        scores.family,
        scores.function,
        experts.expert as unit,
        avg(scores.ranking::decimal(18, 15)) as score,
        avg(scores.ranking_half_a::decimal(18, 15)) as score_a,
        avg(scores.ranking_half_b::decimal(18, 15)) as score_b,
    from neuron_scores as scores
    inner join checkpoints using (run_id, model)
    inner join partitions_of_runs as layers using (run_id, model, stack, layer)
    inner join experts using (partition_id, stack, layer, neuron)
    group by all
),

of_units as (
    select
        last_run_id,
        run_id,
        model,
        '*' as partition_id,
        null::bigint as partition_step,
        null::varchar as method,
        scores.stack,
        scores.layer,
        scores.family,
        scores.function,
        scores.neuron as unit,
        scores.ranking as score,
        scores.ranking_half_a as score_a,
        scores.ranking_half_b as score_b,
    from neuron_scores as scores
    inner join checkpoints using (run_id, model)
    union all by name
    from of_experts
),

-- A row a function, as one list a checkpoint: ranks are then made once a checkpoint, not once a pair.
listed as (
    select
        * exclude (unit, score, score_a, score_b),
        list_sort(list({'unit': unit, 'score': score, 'score_a': score_a, 'score_b': score_b})) as scored,
    from of_units
    group by all
),

ranked as (
    select
        * exclude (scored),
        {
            'checkpoint': checkpoint,
            'units': list_transform(scored, lambda unit: unit.unit),
            'ranks': centred_ranks(list_transform(scored, lambda unit: unit.score)),
            'ranks_a': centred_ranks(list_transform(scored, lambda unit: unit.score_a)),
            'ranks_b': centred_ranks(list_transform(scored, lambda unit: unit.score_b))
        } as ranking,
    from listed
    inner join checkpoints using (last_run_id, run_id, model)
),

-- Windows, not a join with itself: no CTE is read twice, and a filter on a model or a partition reaches the files.
referred as (
    select
        *,
        lag(ranking) over series as previous,
        last_value(ranking) over (
            series rows between unbounded preceding and unbounded following
        ) as last,
    from ranked
    window series as (
        partition by last_run_id, model, partition_id, partition_step, method, stack, layer, family, function
        order by checkpoint.step
    )
),

paired as (
    select
        * exclude (previous, last),
        unnest(
            [
                {'reference': 'previous', 'reference_run_id': previous_run_id, 'other': previous},
                {'reference': 'last', 'reference_run_id': last_run_id, 'other': last}
            ],
            max_depth := 2
        ),
    from referred
)

select
    last_run_id,
    run_id,
    model,
    checkpoint.revision as revision,
    checkpoint.step as step,
    corpus,
    reference,
    reference_run_id,
    other.checkpoint.revision as reference_revision,
    other.checkpoint.step as reference_step,
    case
        when partition_id = '*' then 'neuron'
        when method in ('random', 'matched') then 'random_group'
        else 'expert'
    end as level,
    partition_id,
    partition_step,
    method,
    stack,
    layer,
    family,
    function,
    len(ranking.units) as n_units,
    spearman(ranking.ranks, other.ranks) as correlation,
    spearman(ranking.ranks_a, ranking.ranks_b) as split_half_correlation,
    spearman(other.ranks_a, other.ranks_b) as reference_split_half_correlation,
    (
        spearman(ranking.ranks_a, other.ranks_b) + spearman(ranking.ranks_b, other.ranks_a)
    ) / 2 as cross_half_correlation,
    checkpoint.has_twin or other.checkpoint.has_twin as has_twin,
from paired
where reference_run_id != run_id and other.checkpoint.run_id = reference_run_id and other.units = ranking.units
