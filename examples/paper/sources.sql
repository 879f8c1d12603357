-- The neurons that Figure 2 perturbs, the first of each first: those that tell the classes of a task apart best on half a
-- of the texts, of each layer as many; those that tell all tasks' apart best, mean over functions; and experts of those,
-- best mean first. A source is named as the function that it is read on.
with scores as (
    select
        layer,
        neuron,
        function,
        predictivity_half_a as score,
    from neuron_scores
    where run_id = $run and family = 'task' and predictivity_half_a is not null
),

means as (
    select
        layer,
        neuron,
        avg(score) as score,
    from scores
    group by all
),

of_experts as (
    select
        layer,
        neuron,
        expert,
        avg(score) over (partition by layer, expert) as score_of_expert,
    from means
    join (select layer, neuron, expert from experts where partition_id = $partition and stack = 'encoder')
        using (layer, neuron)
),

ranked as (
    select
        function as family,
        'answers' as function,
        layer,
        neuron,
        row_number() over (partition by family, layer order by score desc, neuron) as place,
    from scores
    where function in ('cola', 'mrpc', 'qqp', 'sst2')
    union all by name
    select
        'all' as family,
        'neurons' as function,
        layer,
        neuron,
        row_number() over (partition by layer order by score desc, neuron) as place,
    from means
    union all by name
    select
        'all' as family,
        'experts' as function,
        layer,
        neuron,
        row_number() over (partition by layer order by score_of_expert desc, expert, neuron) as place,
    from of_experts
)

select
    family,
    function,
    'encoder' as stack,
    layer,
    neuron,
from ranked
where layer in (select layer from experts where partition_id = $partition)
order by family, function, place, layer
