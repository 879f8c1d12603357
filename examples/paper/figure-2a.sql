-- Accuracy on the tasks whose neurons these are, mean over tasks and seeds, by the share x of neurons perturbed.
-- Control: as many random neurons; matched control: neurons of like energy, where there are such sets.
with cells as (
    select
        model,
        selection,
        case
            when selection = 'random' then '*'
            when source_function in ('neurons', 'experts') then source_function || ' of all tasks'
            else 'neurons of ' || source_family
        end as quantity,
        dose as x,
        target_family as task,
        avg(perturbed) as accuracy,
        avg(baseline) as intact,
    from perturbations
    where target_family in ('cola', 'mrpc', 'qqp', 'sst2')
    group by all
),

randoms as (
    select
        model,
        x,
        task,
        accuracy,
    from cells
    where selection = 'random'
),

matched as (
    select
        model,
        quantity,
        x,
        task,
        accuracy,
    from cells
    where selection = 'matched'
)

select
    own.model,
    own.quantity,
    own.x,
    avg(own.accuracy) as ours,
    avg(randoms.accuracy) as control,
    avg(matched.accuracy) as matched_control,
    avg(own.intact) as intact,
from cells as own
left join randoms using (model, x, task)
left join matched using (model, quantity, x, task)
where own.selection = 'query'
group by all
union all by name
select
    model,
    'tasks harmed most by their own neurons' as quantity,
    x,
    count(*) filter (where own < of_others)::double as ours,
    1.0 as control,
from (
    select
        model,
        x,
        task,
        min(accuracy) filter (where quantity = 'neurons of ' || task) as own,
        min(accuracy) filter (where quantity != 'neurons of ' || task) as of_others,
    from cells
    where selection = 'query' and quantity not like '% of all tasks'
    group by all
)
group by all
order by all
