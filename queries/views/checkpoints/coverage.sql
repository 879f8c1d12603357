-- coverage: what should the store hold, and what does it hold?
--
-- Expected are all layers and functions known for a model and kind of measurement, at every revision of the model that
-- was measured or listed as a checkpoint. A row with n_neurons_held = 0 is a checkpoint, layer or function still to be
-- ingested, or one that failed. A model without any measurement has no rows here: its revisions are in checkpoints.
--
-- Grain: model, revision, corpus, corpus_sha256, site, pooling, special_tokens, halves, min_instances, router, dtype, storage, max_tokens, stack, layer, family, function
-- Source: runs, checkpoints, layers, run_functions, neuron_functions
-- Columns:
--   model, revision, step
--   run_id: the measurement that holds most of it, NULL when none does
--   corpus, corpus_sha256, site, pooling
--   special_tokens: drop or keep: whether special tokens of whole texts are pooled
--   halves: what halves a and b have none of in common: text or word
--   min_instances: least positives and negatives of a function in each half
--   router: routed or blind in a mixture of experts, dense elsewhere
--   dtype, storage, max_tokens, stack, layer, family, function
--   n_neurons_expected: neurons of the layer
--   n_neurons_held: neurons with a score for the function
--   is_complete: whether all are held
with measurements as (
    select
        run_id,
        model,
        revision,
        step,
        -- As one value, of which unknown fields are equal.
        {
            'corpus': corpus,
            'corpus_sha256': corpus_sha256,
            'site': site,
            'pooling': pooling,
            'special_tokens': coalesce(special_tokens, 'drop'),
            'halves': coalesce(halves, 'text'),
            'min_instances': coalesce(min_instances, 0),
            'router': coalesce(router, 'dense'),
            'dtype': dtype,
            'storage': storage,
            'max_tokens': max_tokens
        } as settings,
    from runs
),

revisions as (
    select
        model,
        revision,
        -- A run's step is its own; of what is listed, a later row corrects an earlier one.
        coalesce(max(step), arg_max(listed_step, listed_at)) as step,
    from (
        select
            model,
            revision,
            step,
            null as listed_step,
            null as listed_at,
        from runs
        union all
        select
            model,
            revision,
            null,
            step,
            listed_at,
        from checkpoints
    )
    group by all
),

held as (
    select
        run_id,
        stack,
        layer,
        family,
        function,
        count(*) as n_neurons,
    from neuron_functions
    group by all
),

known_layers as (
    select
        measurements.model,
        settings,
        layers.stack,
        layers.layer,
        max(layers.n_neurons) as n_neurons,
    from measurements
    inner join layers using (run_id)
    group by all
),

known_functions as (
    select distinct
        measurements.model,
        settings,
        functions.family,
        functions.function,
    from measurements
    inner join (
        select
            run_id,
            family,
            function,
        from run_functions
        union
        select
            run_id,
            family,
            function,
        from held
    ) as functions using (run_id)
),

held_by_measurement as (
    select
        measurements.model,
        measurements.revision,
        settings,
        held.stack,
        held.layer,
        held.family,
        held.function,
        max(held.n_neurons) as n_neurons,
        min({'order': -held.n_neurons, 'run_id': run_id}).run_id as run_id,
    from measurements
    inner join held using (run_id)
    group by all
)

select
    model,
    revisions.revision,
    revisions.step,
    held_by_measurement.run_id,
    unnest(settings),
    stack,
    layer,
    family,
    function,
    known_layers.n_neurons as n_neurons_expected,
    coalesce(held_by_measurement.n_neurons, 0) as n_neurons_held,
    n_neurons_held >= n_neurons_expected as is_complete,
from revisions
inner join known_layers using (model)
inner join known_functions using (model, settings)
left join held_by_measurement using (model, revision, settings, stack, layer, family, function)
