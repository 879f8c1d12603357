-- compared_runs: which measured runs are the checkpoints of one series, and which two of them are compared?
--
-- A series is the measured runs of one model that differ in step alone; if a step has several revisions, the first by
-- name counts. Each is compared with the one before and with the last.
--
-- Intermediate
-- Grain: run_id, reference
-- Source: runs
-- Columns:
--   last_run_id: the series, by the run of its last step
--   run_id, model, revision, step, corpus
--   reference: previous (the step before in the series) or last
--   reference_run_id: the run it is compared to
--   reference_revision: revision of that run
--   reference_step: its training step
--   has_twin: whether either has the weights of another checkpoint of the series: one of the two has a wrong name
with checkpoints as (
    select
        *,
        -- Of runs made before there were these settings they are NULL, which is their default.
        (
            model, corpus, corpus_sha256, site, pooling, coalesce(special_tokens, 'drop'), coalesce(halves, 'text'),
            coalesce(min_instances, 0), router, dtype, storage, max_tokens, layers
        ) as series,
    from runs
    where measurement = 'measured' and not is_random_init and step is not null
    qualify row_number() over (partition by series, step order by revision, run_id) = 1
),

marked as (
    select
        *,
        {
            'run_id': run_id,
            'revision': revision,
            'step': step,
            'has_twin': count(weights_sha256) over (partition by series, weights_sha256) > 1
        } as checkpoint,
    from checkpoints
),

paired as (
    select
        *,
        last_value(run_id) over (
            partition by series order by step rows between unbounded preceding and unbounded following
        ) as last_run_id,
        unnest(
            [
                {
                    'reference': 'previous',
                    'other': lag(checkpoint) over (partition by series order by step)
                },
                {
                    'reference': 'last',
                    'other': last_value(checkpoint) over (
                        partition by series order by step rows between unbounded preceding and unbounded following
                    )
                }
            ],
            max_depth := 2
        ),
    from marked
)

select
    last_run_id,
    run_id,
    model,
    revision,
    step,
    corpus,
    reference,
    other.run_id as reference_run_id,
    other.revision as reference_revision,
    other.step as reference_step,
    checkpoint.has_twin or other.has_twin as has_twin,
from paired
where other.run_id != run_id
