-- status_holds: what does a store hold, and how much of it?
--
-- Columns:
--   what: the kind, and of which model or corpus
--   n: how many
--   names: their names or ids, the first five
with held as (
    select 1 as place, concat('checkpoints of ', model) as what, revision as name, min(step) as age
    from runs
    group by model, revision
    union all
    select 2, concat('runs on ', coalesce(corpus, 'imported scores')), run_id, epoch(started_at)
    from runs
    union all
    select 3, 'corpora', corpus, null
    from corpora
    union all
    select distinct 4, 'runs with control functions', run_id, null
    from control_functions
    union all
    select distinct 5, 'runs with coactivations', run_id, null
    from coactivations
    union all
    select distinct 6, 'runs with highlights', run_id, null
    from top_tokens
    union all
    select distinct 7, 'runs with vocabulary', run_id, null
    from neuron_vocabulary
    union all
    select 8, concat('partitions by ', method), partition_id, step
    from partitions
    union all
    select distinct 9, 'partitions with alignments', partition_id, null
    from alignments
    union all
    select 10, 'perturbation studies', perturbation_id, epoch(started_at)
    from perturbation_studies
    union all
    select 11, 'emergence studies', emergence_id, epoch(started_at)
    from emergence_studies
)

select
    what,
    count(*) as n,
    array_to_string(list(name order by age nulls first, name)[:5], ', ') || if(n > 5, ', …', '') as names,
from held
group by place, what
order by place, what
