-- The table of what a merge of stores found twice.

-- one copy of a job that a merge found beside the one it kept: made elsewhere, and equal but for rounding
create table merged_copies (
    job varchar not null,                 -- the job, as its commit names it: a run_id, the id of a partition,
                                          -- corpus-<name>
    copy_digest varchar not null,         -- 16 hex digits of the digest of the copy's paths and sha256
    neuronlake_version varchar not null,  -- version of neuronlake that made the copy
    device varchar,                       -- device of the forward pass; NULL if the copy does not state it
    torch_version varchar,                -- version of torch; NULL if the copy does not state it
    transformers_version varchar,         -- version of transformers; NULL if the copy does not state it
    python_version varchar,               -- version of Python; NULL if the copy does not state it
    source varchar,                       -- where it was read from; NULL if the copy does not state it
    started_at timestamp with time zone,  -- when it was started; NULL if the copy does not state it
    duration_s double,                    -- wall time, in seconds; NULL if the copy does not state it
    primary key (job, copy_digest)
);
