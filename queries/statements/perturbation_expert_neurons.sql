-- perturbation_expert_neurons: in which order are neurons taken from a partition's experts for each function?
--
-- Experts are in the order of their hypergeometric p for the function's top neurons on half a, then by how many of these
-- they hold; experts without any are last. The neurons of an expert are in the order of their scores on half a.
--
-- Parameters:
--   $run: the run_id whose scores choose top neurons and rank neurons
--   $partition: the partition_id of the experts
--   $layers: studied layers, as 'stack layer'
--   $functions: functions, as 'family/function'
--   $most: most neurons of a function
--   $ranking: what neurons are ordered by: lift or predictivity
--   $functional_p: an expert is functional where its p is at most this
-- Columns:
--   family, function: the function; * and * of neurons in experts that are functional for no function of the run
--   stack, layer, neuron: its neurons, in order
--   n_functional: of all neurons of the partition, those in experts functional for the function; NULL of *
with members as (
    select stack, layer, neuron, expert
    from experts
    inner join (select stack, layer, neuron from neurons where run_id = $run) using (stack, layer, neuron)
    where partition_id = $partition and list_contains($layers, stack || ' ' || layer)
),

sizes as (
    select stack, layer, expert, count(*) as n_neurons
    from experts
    where partition_id = $partition
    group by all
),

covered as (
    select stack, layer, sum(n_neurons)::bigint as n_covered
    from sizes
    group by all
),

found as (
    select family, function, stack, layer, expert, count(*) as n_top
    from held_out_top_neurons_by($ranking)
    inner join experts using (stack, layer, neuron)
    where run_id = $run and half = 'a' and partition_id = $partition
    group by all
),

drawn as (
    select family, function, stack, layer, sum(n_top)::bigint as n_drawn
    from found
    group by all
),

tests as (
    select *, hypergeometric_tail(n_top, n_neurons, n_drawn, n_covered) as p_value,
    from found
    inner join drawn using (family, function, stack, layer)
    inner join sizes using (stack, layer, expert)
    inner join covered using (stack, layer)
),

scored as (
    select
        family,
        function,
        stack,
        layer,
        neuron,
        ranked($ranking, ranking_half_a, predictivity_half_a) as score,
    from neuron_scores
    where run_id = $run and list_contains($functions, family || '/' || function)
),

placed as (
    select
        family,
        function,
        stack,
        layer,
        neuron,
        count(*) filter (p_value <= $functional_p) over (partition by family, function) as n_functional,
        row_number() over (
            partition by family, function
            order by p_value nulls last, n_top desc, stack, layer, expert, score desc nulls last, neuron
        ) as place,
    from members
    inner join scored using (stack, layer, neuron)
    left join tests using (family, function, stack, layer, expert)
    qualify place <= $most
    union all
    select '*', '*', stack, layer, neuron, null, row_number() over (order by stack, layer, neuron)
    from members
    anti join (from tests where p_value <= $functional_p) using (stack, layer, expert)
)

select family, function, stack, layer, neuron, n_functional,
from placed
order by family, function, place
