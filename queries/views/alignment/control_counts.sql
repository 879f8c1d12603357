-- control_counts: how many top neurons of control functions does each expert hold, by the control that has most of them?
--
-- Ranked
-- Intermediate
-- Grain: run_id, partition_id, stack, layer, family, function
-- Source: control_neuron_experts
-- Columns:
--   run_id, model, revision, step, partition_id, stack, layer, family
--   function: sub-function within the family; * for all of its functions together
--   n_top_of_experts: by expert the mean over draws of n_top, of the control whose mean is highest; none where it is 0
with of_controls as (
    select
        run_id,
        model,
        revision,
        step,
        partition_id,
        control,
        stack,
        layer,
        family,
        unnest([function, '*']) as function,
        expert,
        n_top / n_draws as share,
    from control_neuron_experts_by(ranking)
),

means as (
    select
        * exclude (share),
        sum(share order by share) as n_top,
    from of_controls
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
