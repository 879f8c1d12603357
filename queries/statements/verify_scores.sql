-- verify_scores: which layers lack scores, or have best functions or top neurons that do not follow from their scores?
--
-- Columns:
--   run_id, stack, layer: the layer
--   what: what is wrong
--   n: of how many scores, neurons or entries
with expected as (
    select
        layers.run_id,
        layers.stack,
        layers.layer,
        any_value(layers.n_neurons) * count(run_functions.function) as n_scores,
    from layers
    inner join run_functions using (run_id)
    group by all
),

found as (
    select
        run_id,
        stack,
        layer,
        count(*) as n_scores,
    from neuron_functions
    group by all
),

unlike_scores as (
    select
        best.run_id,
        best.stack,
        best.layer,
        count(*) as n,
    from neuron_best as best
    left join neuron_functions as scores using (run_id, stack, layer, neuron, family, function)
    where (best.ap, best.ap_complement, best.p_value)
        is distinct from (scores.ap, scores.ap_complement, scores.p_value)
    group by all
),

beaten as (
    select
        scores.run_id,
        scores.stack,
        scores.layer,
        count(*) as n,
    from (
        select
            run_id,
            stack,
            layer,
            neuron,
            family,
            min(p_value) as least,
            count(*) as n_functions,
        from neuron_functions
        where run_id in (select run_id from neuron_best)
        group by all
    ) as scores
    left join neuron_best as best using (run_id, stack, layer, neuron, family)
    where best.function is null or best.p_value != scores.least or best.n_functions != scores.n_functions
    group by all
),

unlike_tops as (
    select
        tops.run_id,
        tops.stack,
        tops.layer,
        count(*) as n,
    from function_top_neurons as tops
    left join neuron_functions as scores using (run_id, stack, layer, neuron, family, function)
    where (tops.ap, tops.ap_complement) is distinct from (scores.ap, scores.ap_complement)
    group by all
),

-- Those on all instances: the lists on halves are held to their scores alone.
ranked as (
    select
        run_id,
        stack,
        layer,
        family,
        function,
        neuron,
        unnest(
            [{'ranked_by': 'lift', 'value': ranking}, {'ranked_by': 'predictivity', 'value': predictivity}],
            recursive := true
        ),
    from neuron_scores
    where run_id in (select run_id from function_top_neurons)
),

overtaken as (
    select
        run_id,
        stack,
        layer,
        family,
        function,
        ranked_by,
    from ranked
    left join (from function_top_neurons where half = 'all') as tops
        using (run_id, stack, layer, family, function, ranked_by, neuron)
    group by all
    having count(rank) != greatest(1, count(*) // 100)
        or min(value) filter (rank is not null) < max(value) filter (rank is null)
)

select
    run_id,
    stack,
    layer,
    'scores where ' || expected.n_scores || ' are expected' as what,
    coalesce(found.n_scores, 0) as n,
from expected
left join found using (run_id, stack, layer)
where expected.n_scores is distinct from found.n_scores
union all
select run_id, stack, layer, 'best functions with other scores than neuron_functions', n from unlike_scores
union all
select run_id, stack, layer, 'best functions that are not the best of neuron_functions', n from beaten
union all
select run_id, stack, layer, 'top neurons with other scores than neuron_functions', n from unlike_tops
union all
select run_id, stack, layer, 'lists of top neurons that are not the highest of neuron_functions', count(*) from overtaken
group by all
order by all
