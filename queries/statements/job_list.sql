-- job_list: which jobs does a store have, how large are they, and which depend on which?
--
-- Parameters:
--   $jobs: the rows, as structs
-- Columns:
--   job, kind, models, committed_at, neuronlake_version: the job, and the models of its rows
--   n_files, n_rows, size_bytes: what it wrote
--   depends_on, dependents: jobs that it names, and those that name it, directly or by others
select
    unnest(
        cast(
            $jobs as struct(
                job varchar,
                kind varchar,
                models varchar [],
                committed_at timestamp with time zone,
                neuronlake_version varchar,
                n_files bigint,
                n_rows bigint,
                size_bytes bigint,
                depends_on varchar [],
                dependents varchar []
            ) []
        ),
        recursive := true
    ),
