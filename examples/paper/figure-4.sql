-- Spearman correlation of the scores at step x with those at the next checkpoint, of predictivity and of all neurons as
-- in the paper; x is null for the first step at which it is .9. Control: matched groups, of neurons of like norm and
-- firing rate. settled: the step from which on scores stay correlated with the last checkpoint at .9, corrected for noise.
with partitions_of_last as (
    select partition_id
    from partitions
    where (model, revision) in (select (model, arg_max(revision, step)) from runs group by model)
),

curves as (
    select
        model,
        family,
        reference_step as x,
        case
            when level = 'neuron' then 'neurons'
            when level = 'expert' then 'experts'
            when method = 'random' then 'random groups'
            else 'matched groups'
        end as units,
        avg(paper_correlation) as correlation,
    from stability_curves
    where
        reference = 'previous'
        and stack = 'encoder'
        and if(level = 'neuron', partition_id = '*', partition_id in (select partition_id from partitions_of_last))
    group by all
),

beside as (
    select
        curves.model,
        curves.family,
        curves.units,
        curves.x,
        curves.correlation,
        matched.correlation as matched,
    from curves
    left join curves as matched
        on
            matched.units = 'matched groups'
            and matched.model = curves.model
            and matched.family = curves.family
            and matched.x = curves.x
),

settled as (
    select
        model,
        family,
        case
            when level = 'neuron' then 'neurons'
            when level = 'expert' then 'experts'
            when method = 'random' then 'random groups'
            else 'matched groups'
        end as units,
        median(lasting_step) as settled,
    from stabilization_steps
    where
        reference = 'last'
        and stack = 'encoder'
        and is_corrected
        and threshold = .9
        and if(level = 'neuron', partition_id = '*', partition_id in (select partition_id from partitions_of_last))
    group by all
)

select
    model,
    family || ': ' || units as quantity,
    x,
    if(x is null, min(x_of) filter (where correlation >= .9), avg(correlation)) as ours,
    if(x is null, min(x_of) filter (where matched >= .9), avg(matched)) as control,
    if(x is null, arg_max(correlation, x_of), null) as at_last_step,
    if(x is null, arg_max(matched, x_of), null) as control_at_last_step,
    if(x is null, any_value(settled), null) as settled,
from (select *, x as x_of from beside left join settled using (model, family, units))
group by grouping sets ((model, family, units, x), (model, family, units))
order by all
