-- compared_layers: which checkpoints of a series are compared, layer by layer, and which neurons are dead at either?
--
-- A neuron is dead at a checkpoint if its pooled activation is the same on all instances of the run (neurons.min and
-- max): of ReLU one that never fires, of a routed mixture one whose expert is never chosen, of GELU one that never
-- varies. Its scores are those of chance for every function, at every checkpoint and on both halves, so that it would
-- count as perfectly stable. One that fires on a single instance is alive. If a run lacks its rows of neurons, nothing is
-- known to be dead.
--
-- Intermediate
-- Grain: run_id, reference, stack, layer
-- Source: series_runs, layers, neurons
-- Columns:
--   last_run_id, run_id, model, revision, step, corpus
--   reference: previous (the step before in the series) or last
--   reference_run_id: the run it is compared to
--   reference_revision: revision of that run
--   reference_step: its training step
--   has_twin: whether either has the weights of another checkpoint of the series: one of the two has a wrong name
--   stack, layer
--   is_known: whether it is known of both which neurons are dead
--   dead: neurons that are dead at either
--   dead_hash: a number that is the same where they are
with living as (
    select
        run_id,
        model,
        stack,
        layer,
        list(is_alive("min", "max") order by neuron) as is_alive,
    from neurons
    group by all
),

of_layers as (
    select
        series_runs.*,
        stack,
        layer,
        {
            'run_id': run_id,
            'revision': series_runs.revision,
            'step': series_runs.step,
            'has_twin': has_twin,
            'is_alive': if(len(living.is_alive) = layers.n_neurons, living.is_alive, null)
        } as checkpoint,
    from series_runs
    inner join layers using (run_id, model)
    left join living using (run_id, model, stack, layer)
),

paired as (
    select
        * exclude (checkpoint, previous_run_id, has_twin),
        has_twin or other.has_twin as has_twin,
        case
            when checkpoint.is_alive is not null and other.is_alive is not null then list_transform(
                list_zip(checkpoint.is_alive, other.is_alive), lambda alive: alive[1] and alive[2]
            )
        end as is_alive,
    from (
        select
            *,
            unnest(
                [
                    {'reference': 'previous', 'reference_run_id': previous_run_id, 'other': lag(checkpoint) over series},
                    {
                        'reference': 'last',
                        'reference_run_id': last_run_id,
                        'other': last_value(checkpoint) over (
                            series rows between unbounded preceding and unbounded following
                        )
                    }
                ],
                max_depth := 2
            ),
        from of_layers
        window series as (partition by last_run_id, model, stack, layer order by step)
    )
    where reference_run_id != run_id and other.run_id = reference_run_id
)

select
    last_run_id,
    run_id,
    model,
    revision,
    step,
    corpus,
    reference,
    reference_run_id,
    other.revision as reference_revision,
    other.step as reference_step,
    has_twin,
    stack,
    layer,
    is_alive is not null as is_known,
    coalesce(
        list_where(range(len(is_alive))::int[], list_transform(is_alive, lambda alive: not alive)), []
    ) as dead,
    hash(dead) as dead_hash,
from paired
