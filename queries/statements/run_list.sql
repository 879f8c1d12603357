-- run_list: which runs does a store have, how were they measured, and how large are they?
--
-- Parameters:
--   $sizes: a struct a run: its id, and the last four columns
-- Columns:
--   run_id, model, revision, step, corpus, measurement, site, pooling, router: columns of table runs
--   halves, dtype, layers, n_instances, device, neuronlake_version, started_at, duration_s: more of them
--   n_files, n_rows, size_bytes: of the run with what was added to it
--   dependents: how many jobs of each kind depend on it
with sizes as (
    select
        unnest(
            cast(
                $sizes as struct(
                    run_id varchar,
                    n_files bigint,
                    n_rows bigint,
                    size_bytes bigint,
                    dependents varchar
                ) []
            ),
            recursive := true
        ),
)

select
    run_id,
    model,
    revision,
    step,
    corpus,
    measurement,
    site,
    pooling,
    router,
    halves,
    dtype,
    layers,
    n_instances,
    device,
    neuronlake_version,
    started_at,
    duration_s,
    n_files,
    n_rows,
    size_bytes,
    dependents,
from runs
inner join sizes using (run_id)
order by started_at, run_id
