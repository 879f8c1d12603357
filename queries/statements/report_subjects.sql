-- report_subjects: which measurements does a store hold, and what beside each?
--
-- Of runs that differ in weights alone it is the one of the last step, or else main; and a random initialisation where
-- there is nothing else.
--
-- Parameters:
--   $model: the model, NULL for all
--   $corpus: the corpus, NULL for all
-- Columns:
--   model, revision, corpus, run_id: the measurement
--   random_run_id: the same of a random initialisation, NULL if there is none or this is one
--   is_random_init: whether its weights are a random initialisation
--   series: runs of all checkpoints with a step, this the last; empty without others
--   left_out: revisions of trained weights that are neither this nor in the series
--   n_neurons: neurons over all layers
--   n_layers: its layers
--   n_functions: its functions
--   n_instances: instances measured
--   n_control_draws: permutations of control functions
with measured as (
    select
        *,
        coalesce(is_random_init, false) as is_random,
        -- What defines a measurement beside weights: runs of one series have the same.
        [model, measurement, corpus, corpus_sha256, site, pooling, coalesce(special_tokens, 'drop'),
            coalesce(halves, 'text'), coalesce(min_instances, 0)::varchar, router, dtype, storage, max_tokens::varchar,
            layers] as settings,
    from runs
    where coalesce(model = $model, true) and coalesce(corpus = $corpus, true)
),

placed as (
    select
        *,
        bool_and(is_random) over (partition by settings) as is_alone,
        step is not null and row_number() over (
            partition by settings, is_random, step order by revision, run_id
        ) = 1 as is_stepped,
        row_number() over (partition by settings, is_random order by step nulls last, revision, run_id) as place,
    from measured
),

groups as (
    select
        settings,
        list(run_id order by place) filter (is_stepped and is_random = is_alone) as stepped,
        arg_max(run_id, place) filter (revision = 'main' and is_random = is_alone) as main_run_id,
        arg_max(run_id, place) filter (is_random = is_alone) as last_run_id,
        arg_min(run_id, place) filter (is_random and not is_alone) as random_run_id,
        if(len(stepped) > 1, stepped, []) as series,
        if(len(stepped) > 1, stepped[-1], coalesce(main_run_id, last_run_id)) as run_id,
    from placed
    group by settings
)

select
    model,
    revision,
    corpus,
    groups.run_id,
    random_run_id,
    is_random as is_random_init,
    series,
    (
        select coalesce(list(other.revision order by other.place), [])
        from placed as other
        where
            other.settings = groups.settings and not other.is_random
            and not list_contains(list_append(series, groups.run_id), other.run_id)
    ) as left_out,
    (select coalesce(sum(n_neurons), 0)::bigint from layers where layers.run_id = groups.run_id) as n_neurons,
    (select count(*) from layers where layers.run_id = groups.run_id) as n_layers,
    (select count(*) from run_functions where run_functions.run_id = groups.run_id) as n_functions,
    n_instances,
    (
        select count(distinct (control, draw)) from control_functions where control_functions.run_id = groups.run_id
    ) as n_control_draws,
from groups
inner join placed on placed.run_id = groups.run_id
order by model, corpus, placed.settings
