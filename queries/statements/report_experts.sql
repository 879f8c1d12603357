-- report_experts: how strongly do experts hold a function's top neurons, beside random and matched groups and controls?
--
-- Parameters:
--   $run_id: the measurement
--   $partition_id: the partition
--   $family: the family, NULL for all
-- Columns:
--   stack, layer, family: the layer and family
--   groups: experts, random groups, matched groups, or experts with control functions
--   enrichment: of a function's functional experts, mean over functions; 0 where there is none
--   proportion: share of functional experts, mean over functions
--   n_functional: functional pairs of expert and function
--   n_significant: pairs with q <= .05
--   n_pairs: pairs of expert and function tested
--   method, n_experts: how the experts were made, and how many a layer has
with chosen as (
    select
        modularity.*,
        case
            when partition_id = $partition_id then 'experts'
            when method = 'random' then 'random groups'
            when method = 'matched' then 'matched groups'
        end as groups,
    from modularization as modularity
    where
        run_id = $run_id and coalesce(family = $family, true)
        and (
            partition_id = $partition_id
            or (method = 'random' or partition_id in (
                select partition_id from partitions
                where method = 'matched' and json_extract_string(parameters, '$.matched') = $partition_id
            ))
            and partition_revision = (select any_value(revision) from partitions where partition_id = $partition_id)
            and n_experts = (select any_value(n_experts) from partitions where partition_id = $partition_id)
        )
),

with_controls as (
    select stack, layer, family, groups, degree, proportion, n_functional, n_significant, n_experts, n_functions
    from chosen
    union all
    select stack, layer, family, 'control functions', control_degree, control_proportion, null, null, n_experts, n_functions
    from chosen
    where groups = 'experts' and control_degree is not null
)

select
    stack,
    layer,
    family,
    groups,
    avg(degree) as enrichment,
    avg(proportion) as proportion,
    avg(n_functional) as n_functional,
    avg(n_significant) as n_significant,
    any_value(n_experts * n_functions) as n_pairs,
    (select any_value(method) from partitions where partition_id = $partition_id) as method,
    any_value(n_experts) as n_experts,
from with_controls
group by all
order by all
