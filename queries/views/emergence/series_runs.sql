-- series_runs: which measured runs are the checkpoints of one series?
--
-- A series is the measured runs of one model that differ in step alone; if a step has several revisions, the first by
-- name counts.
--
-- Intermediate
-- Grain: run_id
-- Source: runs
-- Columns:
--   last_run_id: the series, by the run of its last step
--   run_id, model, revision, step, corpus
--   previous_run_id: the run of the step before, NULL of the first
--   has_twin: whether another checkpoint of the series has the same weights: one of the two has a wrong name
with settings as (
    -- Of runs made before there were these settings they are NULL, which is their default.
    select
        * replace (
            coalesce(special_tokens, 'drop') as special_tokens,
            coalesce(halves, 'text') as halves,
            coalesce(min_instances, 0) as min_instances,
        ),
    from runs
),

measurements as (
    select
        run_id,
        model,
        revision,
        step,
        weights_sha256,
        corpus,
        corpus_sha256,
        site,
        pooling,
        special_tokens,
        halves,
        min_instances,
        router,
        dtype,
        storage,
        max_tokens,
        layers as layers_asked,
    from settings
    where measurement = 'measured' and not is_random_init and step is not null
    qualify row_number() over (
        partition by
            model, corpus, corpus_sha256, site, pooling, special_tokens, halves, min_instances, router, dtype, storage,
            max_tokens, layers_asked, step
        order by revision, run_id
    ) = 1
)

select
    last_value(run_id) over (series rows between unbounded preceding and unbounded following) as last_run_id,
    run_id,
    model,
    revision,
    step,
    corpus,
    lag(run_id) over series as previous_run_id,
    count(weights_sha256) over (
        partition by
            model, corpus, corpus_sha256, site, pooling, special_tokens, halves, min_instances, router, dtype, storage,
            max_tokens, layers_asked, weights_sha256
    ) > 1 as has_twin,
from measurements
window series as (
    partition by
        model, corpus, corpus_sha256, site, pooling, special_tokens, halves, min_instances, router, dtype, storage,
        max_tokens, layers_asked
    order by step
)
