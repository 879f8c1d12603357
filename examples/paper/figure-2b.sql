-- Accuracy on tasks that chose no neurons, mean over tasks and seeds, by the share x of neurons perturbed.
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
    where target_family in ('boolq', 'cb', 'mnli', 'multirc', 'qnli')
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
order by all
