-- Accuracy after training on few examples, by the experts that the router may choose; x is the seed, null for the mean
-- over seeds. For DuckDB in the folder of few-shot.csv.
with runs as (
    select
        model,
        task,
        seed,
        n_layers,
        strategy,
        accuracy,
        held_out,
    from 'few-shot.csv'
)

select
    model,
    coalesce(task, 'mean of the tasks') as quantity,
    seed as x,
    avg(accuracy) filter (where strategy = 'functional') as ours,
    avg(accuracy) filter (where strategy = 'other') as control,
    avg(accuracy) filter (where strategy = 'unrestricted') as unrestricted,
    avg(held_out) filter (where strategy = 'functional') as held_out,
    avg(held_out) filter (where strategy = 'other') as control_held_out,
    max(n_layers) as n_layers_restricted,
from runs
group by grouping sets ((model, task, seed), (model, task), (model))
order by all
