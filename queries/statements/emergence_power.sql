-- emergence_power: in which layers of a study can no expert be functional, or hardly one?
--
-- By the sizes of the experts of the last checkpoint: the smallest p that an expert can have, and how many of a
-- function's top neurons (1% of the layer's, at least one, as in the view top_neurons) it must hold to be functional.
--
-- Parameters:
--   $study: the emergence_id
--   $last_run: run of the last checkpoint
--   $seed: first seed of the study
-- Columns:
--   stack: encoder or decoder
--   layers: the layers that have all else in common
--   n_top: top neurons of a function
--   n_experts: experts of the layer
--   n_smallest: neurons of the smallest expert
--   n_largest: neurons of the largest
--   least_p_value: the smallest p value that is possible
--   n_needed: least top neurons that make an expert functional, NULL if none can be
with sizes as (
    select stack, layer, expert, greatest(1, layers.n_neurons // 100) as n_top, count(*) as n_neurons
    from emergence_partitions as made
    inner join experts using (partition_id)
    inner join layers using (run_id, stack, layer)
    where emergence_id = $study and run_id = $last_run and role in ('cold', 'native') and made.seed = $seed
    group by all
),

counts as (
    select
        *,
        count(*) over (partition by stack, layer) as n_experts,
        sum(n_neurons) over (partition by stack, layer)::bigint as n_covered,
    from sizes
),

tests as (
    select
        *,
        unnest(range(1, least(n_top, n_neurons) + 1)) as n_held,
        hypergeometric_tail(n_held, n_neurons, n_top, n_covered) as p_value,
    from counts
),

of_layers as (
    select
        stack,
        layer,
        n_top,
        n_experts,
        min(n_neurons) as n_smallest,
        max(n_neurons) as n_largest,
        min(p_value) as least_p_value,
        min(n_held) filter (where p_value <= 0.001) as n_needed,
    from tests
    group by all
)

select
    stack,
    list(layer order by layer) as layers,
    n_top,
    n_experts,
    n_smallest,
    n_largest,
    least_p_value,
    n_needed,
from of_layers
where n_needed is null or n_needed >= n_top - 1
group by all
order by stack, layers
