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
--   $most: no expert is begun after so many neurons of a function
--   $ranking: what neurons are ordered by: lift or predictivity
--   $functional_p: an expert is functional where its p is at most this
-- Columns:
--   family, function: the function; * and * of neurons in experts that are functional for no function of the run
--   stack, layer, neuron: its neurons, in order
--   n_functional: of all neurons of the partition, those in experts functional for the function; NULL of *
--   place, score: place of the neuron's expert, and its score
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

ordered as (
    select
        family,
        function,
        stack,
        layer,
        expert,
        sum(if(p_value <= $functional_p, n_members, 0)) over (partition by family, function)::bigint as n_functional,
        row_number() over in_order as place,
        sum(n_members) over in_order - n_members as n_before,
    from run_functions
    cross join (select stack, layer, expert, count(*) as n_members from members group by all)
    left join tests using (family, function, stack, layer, expert)
    where run_functions.run_id = $run and list_contains($functions, family || '/' || function)
    window in_order as (
        partition by family, function
        order by p_value nulls last, n_top desc, stack, layer, expert
    )
    qualify n_before < $most
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
)

select family, function, stack, layer, neuron, n_functional, place, score,
from ordered
inner join members using (stack, layer, expert)
inner join scored using (family, function, stack, layer, neuron)
union all
select '*', '*', stack, layer, neuron, null, 1, null
from members
anti join (from tests where p_value <= $functional_p) using (stack, layer, expert)
order by family, function, place, score desc nulls last, stack, layer, neuron
