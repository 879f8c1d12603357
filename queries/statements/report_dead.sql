-- report_dead: how many neurons are dead at each checkpoint of a series or at its last, if any are?
--
-- Parameters:
--   $run_id: run of the last checkpoint
-- Columns:
--   step: training step
--   n_dead: neurons that are dead at it or at the last
--   n_neurons: all neurons
--   share_dead: n_dead / n_neurons
select
    step,
    sum(n_dead)::bigint as n_dead,
    sum(n_dead + n_units)::bigint as n_neurons,
    sum(n_dead) / sum(n_dead + n_units) as share_dead,
from (
    select
        step,
        stack,
        layer,
        max(n_dead) as n_dead,
        min(n_units) as n_units,
    from stabilities
    where reference_run_id = $run_id and partition_id = '*' and n_dead is not null
    group by all
)
group by step
having max(n_dead) > 0
order by step
