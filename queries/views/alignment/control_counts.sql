-- control_counts: how many top neurons of control functions does each expert hold, by the control that has most of them?
--
-- Mean over the lists of a control: the draws of a function, and for a family as many as the run has functions of it,
-- for a control may lack some (strata may fix a function).
--
-- Ranked
-- Intermediate
-- Empty without: control_functions
-- Type: n_top_of_experts map(integer, double)
-- Grain: run_id, partition_id, stack, layer, family, function
-- Source: control_neuron_experts, control_functions, run_functions
-- Columns:
--   run_id, model, revision, step, partition_id, stack, layer, family
--   function: sub-function within the family; * for all of its functions together
--   n_top_of_experts: by expert the mean over draws of n_top, of the control whose mean is highest; none where it is 0
with lists as (
    select
        run_id,
        control,
        family,
        of.function,
        any_value(if(of.function = '*', n_functions, 1)) / count(*) as per_list,
    from control_functions
    inner join (
        select
            run_id,
            family,
            count(*) as n_functions,
        from run_functions
        group by all
    ) using (run_id, family)
    cross join unnest([control_functions.function, '*']) as of(function)
    group by all
),

of_controls as (
    select
        * exclude (draw, function, n_top),
        unnest([function, '*']) as function,
        n_top,
    from control_neuron_experts_by(ranking)
),

means as (
    select
        of_controls.* exclude (n_top),
        sum(n_top) * any_value(per_list) as n_top,
    from of_controls
    inner join lists using (run_id, control, family, function)
    group by all
),

highest as (
    select
        * exclude (control, n_top),
        max(n_top) as n_top,
    from means
    group by all
)

select
    * exclude (expert, n_top),
    map(list(expert), list(n_top)) as n_top_of_experts,
from highest
group by all
