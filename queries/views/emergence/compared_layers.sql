-- compared_layers: of which layers of two checkpoints of a series is stability not stored, and which neurons are dead?
--
-- Those of equal width that both runs measured. A neuron is dead at a checkpoint if its pooled activation is the same
-- on all instances of the run (neurons.min and max): of ReLU one that never fires, of a routed mixture one whose expert
-- is never chosen, of GELU one that never varies. Its scores are those of chance for every function, at every
-- checkpoint and on both halves, so that it would count as perfectly stable. One that fires on a single instance is
-- alive. If a run lacks its rows of neurons, nothing is known to be dead.
--
-- Intermediate
-- Grain: run_id, reference_run_id, stack, layer
-- Source: compared_runs, layers, neurons, partitions_of_runs, stabilities
-- Columns:
--   run_id, model, revision, step
--   reference_run_id: the run it is compared to
--   stack, layer
--   partition_ids: partitions of which no stability is stored, and * if none of neurons is
--   is_known: whether it is known of both which neurons are dead
--   dead: neurons that are dead at either
--   dead_hash: a number that is the same where they are
with stored as (
    select distinct
        run_id,
        reference_run_id,
        model,
        partition_id,
    from stabilities
),

unstored as (
    select
        compared_runs.* exclude (last_run_id, corpus, reference, reference_revision, reference_step, has_twin),
        stack,
        layer,
        list(partition_id order by partition_id) as partition_ids,
    from compared_runs
    inner join (
        select run_id, model, stack, layer, '*' as partition_id from layers
        union all
        select run_id, model, stack, layer, partition_id from partitions_of_runs
    ) as units using (run_id, model)
    anti join stored using (run_id, reference_run_id, model, partition_id)
    group by all
),

living as (
    select
        run_id,
        model,
        stack,
        layer,
        list(is_alive("min", "max") order by neuron) as is_alive,
    from neurons
    where run_id in (select unnest([run_id, reference_run_id]) from unstored)
    group by all
),

of_layers as (
    select
        run_id as measured_run_id,
        model,
        stack,
        layer,
        n_neurons,
        if(len(is_alive) = n_neurons, is_alive, null) as is_alive,
    from layers
    left join living using (run_id, model, stack, layer)
),

-- A left join and then a group: of two joins so many rows are expected that scores would be joined before any filter.
measured as (
    select
        * exclude (measured_run_id, n_neurons, is_alive),
        list(n_neurons) as widths,
        list(is_alive) as is_alive,
    from (select *, unnest([run_id, reference_run_id]) as measured_run_id from unstored)
    left join of_layers using (measured_run_id, model, stack, layer)
    group by all
)

select
    * exclude (widths, is_alive),
    list_count(is_alive) = 2 as is_known,
    if(
        is_known,
        list_where(
            range(widths[1])::int[],
            list_transform(list_zip(is_alive[1], is_alive[2]), lambda alive: not (alive[1] and alive[2]))
        ),
        []
    ) as dead,
    hash(dead) as dead_hash,
from measured
where widths[1] = widths[2]
