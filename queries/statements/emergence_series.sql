-- emergence_series: which series of checkpoints does the store hold of a model?
--
-- A series is the measured runs of trained weights that have a known step and the same corpus and settings, as in the
-- view checkpoint_stability.
--
-- Parameters:
--   $model: the model, as stored
-- Columns:
--   corpus: corpus of the runs
--   dtype: floating-point type of the weights
--   measurement: the settings that the runs share, as text
--   runs: run_id, revision, step and weights_sha256 of each run, by step and revision
with measured as (
    select
        *,
        case when special_tokens = 'keep' then 'special tokens kept' end as kept,
        case when halves = 'word' then 'halves by word' end as halved,
        case when min_instances > 0 then 'min_instances ' || min_instances end as least,
    from runs
    where model = $model and step is not null and measurement = 'measured' and not is_random_init
)

select
    corpus,
    dtype,
    concat_ws(
        ', ', corpus, site, pooling, kept, halved, least, router, dtype, storage, max_tokens, layers
    ) as measurement,
    list(
        {'run_id': run_id, 'revision': revision, 'step': step, 'weights_sha256': weights_sha256}
        order by step, revision, run_id
    ) as runs,
from measured
group by corpus, corpus_sha256, site, pooling, kept, halved, least, router, dtype, storage, max_tokens, layers
order by runs
