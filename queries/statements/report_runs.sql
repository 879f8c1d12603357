-- report_runs: which runs does a store hold, and which run is the random initialisation beside each?
--
-- Parameters:
--   $model: the model, NULL for all
--   $corpus: the corpus, NULL for all
-- Columns:
--   model, revision, step, corpus, run_id: the measurement
--   is_random_init: whether its weights are a random initialisation
--   is_imported: whether its scores are of others
--   settings: what defines a measurement beside weights and corpus: runs of one series have the same
--   n_neurons: neurons over all layers
--   n_layers: its layers
--   n_functions: its functions
--   n_instances: instances measured
--   n_control_draws: permutations of control functions
--   n_native_experts: native experts of a layer, NULL if dense
select
    model,
    revision,
    step,
    corpus,
    run_id,
    coalesce(is_random_init, false) as is_random_init,
    measurement = 'imported' as is_imported,
    concat_ws(
        ' ', corpus_sha256, site, pooling, special_tokens, halves, min_instances, router, dtype, storage, max_tokens,
        runs.layers
    ) as settings,
    coalesce(sizes.n_neurons, 0) as n_neurons,
    coalesce(sizes.n_layers, 0) as n_layers,
    coalesce(functions.n_functions, 0) as n_functions,
    n_instances,
    coalesce(controls.n_draws, 0) as n_control_draws,
    sizes.n_native_experts,
from runs
left join (
    select run_id, sum(n_neurons)::bigint as n_neurons, count(*) as n_layers, max(n_native_experts) as n_native_experts
    from layers
    group by all
) as sizes using (run_id)
left join (select run_id, count(*) as n_functions from run_functions group by all) as functions using (run_id)
left join (select run_id, count(distinct (control, draw)) as n_draws from control_functions group by all) as controls
    using (run_id)
where coalesce(model = $model, true) and coalesce(corpus = $corpus, true)
order by model, corpus, settings, is_random_init, step nulls last, revision, run_id
