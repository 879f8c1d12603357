-- expert_effect_sizes: how much of the differences between a layer's neurons do its experts account for?
--
-- Eta squared of one-way analysis of variance: the share of the variance of the neurons' ranking that lies between
-- experts. It covers all neurons, where the alignment views cover the top 1%.
--
-- Ranked
-- Grain: run_id, partition_id, stack, layer, family, function
-- Source: neuron_scores, partitions_of_runs, experts
-- Columns:
--   run_id, model, revision, step, partition_id
--   partition_revision, method, partition_half
--   n_experts: experts of the layer with a scored neuron
--   stack, layer, family, function
--   n_neurons: neurons that have a score and an expert
--   eta_squared: sum of squares between experts / total, 0 to 1; NULL if all neurons rank the same
--   chance_eta_squared: its mean if neurons were assigned to experts at random: (n_experts - 1) / (n_neurons - 1)
--   best_expert: the expert with the highest mean ranking; ties go to the lower index
--   best_mean: mean ranking of that expert
--   mean: mean ranking of all
with of_experts as (
    select
        scores.run_id,
        scores.model,
        scores.revision,
        scores.step,
        partition_id,
        layers.partition_revision,
        layers.method,
        layers.partition_half,
        stack,
        layer,
        scores.family,
        scores.function,
        experts.expert,
        count(*) as n_neurons,
        avg(ranked(ranking, scores.ranking, scores.predictivity)) as mean,
        var_pop(ranked(ranking, scores.ranking, scores.predictivity)) as variance,
    from neuron_scores as scores
    inner join partitions_of_runs as layers using (run_id, model, stack, layer)
    inner join experts using (partition_id, stack, layer, neuron)
    group by all
),

of_layers as (
    select
        * exclude (expert, n_neurons, mean, variance),
        list({'n_neurons': n_neurons, 'mean': mean} order by expert) as parts,
        count(*) as n_experts,
        sum(n_neurons)::bigint as n_neurons,
        sum(n_neurons * mean order by expert) / sum(n_neurons) as mean,
        sum(n_neurons * variance order by expert) as within_experts,
        min({'order': -mean, 'expert': expert}) as best,
    from of_experts
    group by all
),

squares as (
    select
        *,
        list_sum(list_transform(parts, lambda part: part.n_neurons * (part.mean - mean) ** 2)) as between_experts,
    from of_layers
)

select
    run_id,
    model,
    revision,
    step,
    partition_id,
    partition_revision,
    method,
    partition_half,
    n_experts,
    stack,
    layer,
    family,
    function,
    n_neurons,
    between_experts / nullif(between_experts + within_experts, 0) as eta_squared,
    (n_experts - 1) / nullif(n_neurons - 1, 0) as chance_eta_squared,
    best.expert as best_expert,
    -best.order as best_mean,
    mean,
from squares
