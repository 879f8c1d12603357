-- checkpoint_identity: which revisions have the same weights as another, all or some of them?
--
-- Mislabelled checkpoints are common: one set of weights under two names (identical), or shards of two checkpoints
-- under one name (mixed). Identical compares the digests of all weights. Mixed compares single tensors, within a model
-- and a type of weights, of trained weights alone; only tensors that differ between some of its revisions count, as
-- those that never change (rotary frequencies, say) prove nothing. A mixed row asks a question: a fine-tuned model with
-- frozen layers shares tensors with its origin too, and so do checkpoints of step 0 whose biases and norms start at the
-- same constant. Imported runs have no digest and are excluded; runs from before tensors had digests appear only if
-- identical.
--
-- Grain: model, revision, weights_sha256, twin_model, twin_revision, twin_weights_sha256
-- Source: runs, weight_tensors
-- Columns:
--   model, revision, step
--   run_id: a measurement of it
--   weights_sha256
--   twin_model: model of the other revision
--   twin_revision: the other revision
--   twin_step: its training step, NULL when unknown
--   twin_weights_sha256: digest of its weights
--   kind: identical: all weights are equal; mixed: some tensors are
--   n_tensors: tensors of the revision, if mixed those that differ somewhere in the model; NULL if not recorded
--   n_equal_tensors: of these, equal in the other revision; NULL likewise
--   share_equal: share of their numbers that is in equal tensors; NULL likewise
with weights as (
    select
        model,
        revision,
        weights_sha256,
        max(step) as step,
        min(run_id) as run_id,
        min(dtype) as dtype,
        bool_or(is_random_init) as is_random_init,
    from runs
    where weights_sha256 is not null
    group by all
),

-- The tensors of one run for each set of weights.
tensors as (
    select
        weights.model,
        weights.revision,
        weights.weights_sha256,
        weights.dtype,
        weights.is_random_init,
        weight_tensors.tensor,
        weight_tensors.sha256,
        weight_tensors.n_values,
    from weights
    inner join (
        select
            model,
            revision,
            weights_sha256,
            min(run_id) as run_id,
        from runs
        where run_id in (select run_id from weight_tensors)
        group by all
    ) as recorded using (model, revision, weights_sha256)
    inner join weight_tensors on weight_tensors.run_id = recorded.run_id
),

counts as (
    select
        model,
        revision,
        weights_sha256,
        count(*) as n_tensors,
    from tensors
    group by all
),

varying as (
    select
        model,
        dtype,
        tensor,
    from tensors
    where not is_random_init
    group by all
    having count(distinct sha256) > 1
),

trained as (
    select tensors.*
    from tensors
    inner join varying using (model, dtype, tensor)
    where not tensors.is_random_init
),

varying_counts as (
    select
        model,
        revision,
        weights_sha256,
        count(*) as n_tensors,
        sum(n_values) as n_values,
    from trained
    group by all
),

shared as (
    select
        a.model,
        a.revision,
        a.weights_sha256,
        b.revision as twin_revision,
        b.weights_sha256 as twin_weights_sha256,
        count(*) as n_equal_tensors,
        sum(a.n_values) as n_equal_values,
    from trained as a
    inner join trained as b using (model, dtype, tensor, sha256)
    where a.revision != b.revision and a.weights_sha256 != b.weights_sha256
    group by all
),

twins as (
    select
        a.model,
        a.revision,
        a.weights_sha256,
        b.model as twin_model,
        b.revision as twin_revision,
        b.weights_sha256 as twin_weights_sha256,
        'identical' as kind,
        counts.n_tensors,
        counts.n_tensors as n_equal_tensors,
        if(counts.n_tensors is null, null, 1.0::double) as share_equal,
    from weights as a
    inner join weights as b using (weights_sha256)
    left join counts
        on counts.model = a.model
        and counts.revision = a.revision
        and counts.weights_sha256 = a.weights_sha256
    where (a.model, a.revision) != (b.model, b.revision)
    union all
    select
        shared.model,
        shared.revision,
        shared.weights_sha256,
        shared.model as twin_model,
        shared.twin_revision,
        shared.twin_weights_sha256,
        'mixed' as kind,
        varying_counts.n_tensors,
        shared.n_equal_tensors,
        shared.n_equal_values / varying_counts.n_values as share_equal,
    from shared
    inner join varying_counts using (model, revision, weights_sha256)
    where shared.n_equal_tensors < varying_counts.n_tensors
)

select
    twins.model,
    twins.revision,
    own.step,
    own.run_id,
    twins.weights_sha256,
    twins.twin_model,
    twins.twin_revision,
    other.step as twin_step,
    twins.twin_weights_sha256,
    twins.kind,
    twins.n_tensors,
    twins.n_equal_tensors,
    twins.share_equal,
from twins
inner join weights as own
    on own.model = twins.model
    and own.revision = twins.revision
    and own.weights_sha256 = twins.weights_sha256
inner join weights as other
    on other.model = twins.twin_model
    and other.revision = twins.twin_revision
    and other.weights_sha256 = twins.twin_weights_sha256
