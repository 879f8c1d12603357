-- partition_agreement: do two partitions of a model's neurons put the same neurons together?
--
-- Pairs of partitions of one model are compared layer by layer, over the neurons that have an expert in both. The
-- adjusted Rand index (Hubert and Arabie 1985) is 1 for equal partitions and 0 on average for unrelated ones.
-- Normalized mutual information (by the mean of both entropies) is 0 to 1 and rises with the number of experts, related
-- or not. Variation of information (Meila 2007) is a distance, 0 for equal partitions.
--
-- Grain: partition_id_a, partition_id_b, stack, layer
-- Source: partitions, experts
-- Columns:
--   model
--   partition_id_a: a partition
--   partition_id_b: another, after it by id
--   revision_a: revision whose neurons the first partitions
--   revision_b: revision whose neurons the second partitions
--   method_a: how the first was made
--   method_b: how the second was made
--   stack, layer
--   adjusted_rand_index: agreement on pairs of neurons, above chance
--   normalized_mutual_information: information that the expert in one partition gives about the expert in the other
--   variation_of_information: both conditional entropies together, in nats: 0 if equal
--   n_neurons: neurons that have an expert in both
with pairs as (
    select
        a.model,
        a.partition_id as partition_id_a,
        b.partition_id as partition_id_b,
    from partitions as a
    inner join partitions as b on a.model = b.model and a.partition_id < b.partition_id
),

cells as (
    select
        pairs.*,
        a.stack,
        a.layer,
        a.expert as expert_a,
        b.expert as expert_b,
        count(*) as n_both,
    from pairs
    inner join experts as a on a.partition_id = pairs.partition_id_a
    inner join experts as b
        on b.partition_id = pairs.partition_id_b
        and b.stack = a.stack
        and b.layer = a.layer
        and b.neuron = a.neuron
    group by all
),

margins as (
    select
        *,
        sum(n_both) over (partition by model, partition_id_a, partition_id_b, stack, layer, expert_a) as n_a,
        sum(n_both) over (partition by model, partition_id_a, partition_id_b, stack, layer, expert_b) as n_b,
        sum(n_both) over (partition by model, partition_id_a, partition_id_b, stack, layer) as n_neurons,
    from cells
),

-- Ordered pairs of neurons, by whether a and b have the two in one expert, in exact integers; the entropies, and
-- their mutual information, times the number of neurons.
sums as (
    select
        model,
        partition_id_a,
        partition_id_b,
        stack,
        layer,
        any_value(n_neurons) as n_neurons,
        sum(n_both * (n_both - 1)) as n_together,
        sum(n_both * (n_a - n_both)) as n_only_a,
        sum(n_both * (n_b - n_both)) as n_only_b,
        sum(n_both * (n_neurons - n_a - n_b + n_both)) as n_apart,
        sum(n_both * ln(n_both * n_neurons / (n_a * n_b)) order by expert_a, expert_b) as information,
        sum(n_both * ln(n_neurons / n_a) order by expert_a, expert_b) as entropy_a,
        sum(n_both * ln(n_neurons / n_b) order by expert_a, expert_b) as entropy_b,
        sum(n_both * (ln(n_a / n_both) + ln(n_b / n_both)) order by expert_a, expert_b) as variation,
    from margins
    group by all
)

select
    sums.model,
    partition_id_a,
    partition_id_b,
    a.revision as revision_a,
    b.revision as revision_b,
    a.method as method_a,
    b.method as method_b,
    stack,
    layer,
    case
        when n_only_a = 0 and n_only_b = 0 then 1
        else 2 * (n_together * n_apart - n_only_a * n_only_b) / (
            (n_together + n_only_a) * (n_only_a + n_apart) + (n_together + n_only_b) * (n_only_b + n_apart)
        )
    end as adjusted_rand_index,
    case
        when entropy_a + entropy_b = 0 then 1
        else 2 * greatest(information, 0) / (entropy_a + entropy_b)
    end as normalized_mutual_information,
    variation / n_neurons as variation_of_information,
    n_neurons::bigint as n_neurons,
from sums
inner join partitions as a on a.partition_id = partition_id_a
inner join partitions as b on b.partition_id = partition_id_b
