-- perturbation_expert_tests: which experts hold more of a function's top neurons on half a than chance would put there?
--
-- Parameters:
--   $run: the run_id whose scores choose top neurons
--   $partition: the partition_id of the experts
--   $ranking: what chooses top neurons: lift or predictivity
-- Columns:
--   family, function: the function
--   stack, layer, expert: an expert that holds one of its top neurons at least
--   n_top: how many it holds
--   p_value: hypergeometric, of as many or more among the neurons of the layer that the partition covers
with sizes as (
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
)

select
    family,
    function,
    stack,
    layer,
    expert,
    n_top,
    hypergeometric_tail(n_top, n_neurons, n_drawn, n_covered) as p_value,
from found
inner join drawn using (family, function, stack, layer)
inner join sizes using (stack, layer, expert)
inner join covered using (stack, layer)
