-- checkpoint_identity: which revisions have exactly the weights of another?
--
-- Mislabelled checkpoints are common: two names, one set of weights.
--
-- Grain: model, revision, twin_model, twin_revision, weights_sha256
-- Source: runs
-- Columns:
--   model: hub id or folder name, as given
--   revision: revision of the model
--   step: training step of the revision, NULL when unknown
--   run_id: a measurement of it
--   twin_model: model of the other revision
--   twin_revision: the other revision
--   twin_step: its training step, NULL when unknown
--   weights_sha256: the digest they share
with checkpoints as (
    select
        model,
        revision,
        weights_sha256,
        max(step) as step,
        min(run_id) as run_id,
    from runs
    group by all
)

select
    a.model,
    a.revision,
    a.step,
    a.run_id,
    b.model as twin_model,
    b.revision as twin_revision,
    b.step as twin_step,
    weights_sha256,
from checkpoints as a
inner join checkpoints as b using (weights_sha256)
where (a.model, a.revision) != (b.model, b.revision)
