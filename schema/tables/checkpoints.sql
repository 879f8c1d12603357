-- The tables of series of checkpoints, and of studies of when experts emerge in them.

-- one checkpoint of a series as its source listed it, whether it could be measured or not
create table checkpoints (
    model varchar not null, revision varchar not null, step bigint,
    source varchar not null,                      -- hub or folder: where the series was listed; file: a list of
                                                  -- revisions
    listed_at timestamp with time zone not null,  -- when it was listed; of several rows of a revision the newest counts
    primary key (model, revision, listed_at)
);

-- one study of when experts and neurons settle over a series of checkpoints
create table emergence_studies (
    emergence_id varchar not null,   -- 16 hex digits of the digest of all that defines the study
    model varchar not null,
    last_run_id varchar not null,    -- run of the last checkpoint, which identifies the series
    corpus varchar not null,         -- corpus of the runs
    method varchar not null,         -- how experts are made: kmeans, coactivation, function or native
    n_experts integer not null,      -- experts in each layer, the most where layers differ
    parameters varchar not null,     -- JSON object of all other parameters of the partitions
    n_seeds integer not null,        -- seeds of cold partitions
    n_random integer not null,       -- random partitions; as many are matched, where norms are known
    seed bigint not null,            -- first seed
    n_checkpoints integer not null,  -- checkpoints of the series
    first_step bigint not null,      -- training step of the first
    last_step bigint not null,       -- training step of the last
    neuronlake_version varchar not null, started_at timestamp with time zone not null, duration_s double not null,
    primary key (emergence_id)
);

-- one partition of a study: of each checkpoint by clustering, of the last alone if native, random or matched
create table emergence_partitions (
    emergence_id varchar not null,  -- the study
    model varchar not null, revision varchar not null, step bigint,
    role varchar not null,          -- cold: made independently at each checkpoint; warm: started from the experts of
                                    -- the checkpoint before; native: the model's own; random: random groups of equal
                                    -- number and size; matched: the experts of the last checkpoint permuted among
                                    -- neurons of similar input norm and firing rate
    seed bigint not null,           -- seed of the partitions of this role, 0 where nothing is drawn
    run_id varchar not null,        -- run of the checkpoint in the series
    partition_id varchar not null,  -- the partition
    primary key (emergence_id, role, seed, revision)
);

-- how much the partition of a layer at one checkpoint agrees with another of the same study
create table partition_changes (
    emergence_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    role varchar not null, seed bigint not null,
    reference varchar not null,                -- previous: the checkpoint before; last: the last one; seed: the same
                                               -- checkpoint, the agreement to compare the other two with. Cold
                                               -- partitions are compared with the other seeds, on average
    reference_step bigint not null,            -- training step of the partition compared with
    stack varchar not null, layer smallint not null,
    adjusted_rand_index double not null,       -- agreement on pairs of neurons; 0 by chance, 1 if equal
    normalized_mutual_information double not null,  -- by the mean of both entropies; 0 to 1, not 0 by chance
    variation_of_information double not null,  -- in nats: 0 if equal
    primary key (emergence_id, role, seed, revision, reference, stack, layer)
);

-- one expert of one checkpoint and the expert of the last checkpoint that it becomes
create table expert_tracks (
    emergence_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    role varchar not null, seed bigint not null, run_id varchar not null, partition_id varchar not null,
    stack varchar not null, layer smallint not null,
    expert integer not null,         -- index of the expert within its layer and partition
    track integer not null,          -- index, at the last checkpoint, of the expert it is matched to, link by link
    n_neurons integer not null,      -- neurons of the expert
    n_shared_next integer,           -- of these, in the expert of the track at the next checkpoint
    n_shared_last integer not null,  -- of these, in the expert of the track at the last checkpoint
    primary key (emergence_id, role, seed, revision, stack, layer, expert)
);

-- how similar the scores of a layer's neurons, or of a partition's experts, are for a function in two runs
create table stabilities (
    run_id varchar not null,                  -- the measurement: 16 hex digits of the digest of all that defines it
    model varchar not null, revision varchar not null, step bigint,
    reference_run_id varchar not null,        -- the run it is compared to
    partition_id varchar not null,            -- the partition, * of neurons
    stack varchar not null, layer smallint not null,
    family varchar not null,                  -- function family: semantic, knowledge, task, grammar or the corpus's own
    function varchar not null,                -- sub-function within the family
    n_units integer not null,                 -- neurons or experts compared: neurons alive in both, experts that have
                                              -- such
    n_dead integer,                           -- neurons left out, as they are dead in either, of those in an expert;
                                              -- NULL if unknown of either
    correlation double,                       -- Spearman correlation of the units' scores in both, uncorrected; NULL if
                                              -- all units of either score the same
    correlation_half_a double,                -- the same of the scores on half a; NULL if all units of either score the
                                              -- same
    correlation_half_b double,                -- the same of the scores on half b; NULL if all units of either score the
                                              -- same
    split_half_correlation double,            -- Spearman correlation of the scores on half a and on half b; NULL if all
                                              -- units of either score the same
    reference_split_half_correlation double,  -- the same in the run it is compared to; NULL if all units of either
                                              -- score the same
    cross_half_correlation double,            -- mean correlation of half a in one with half b in the other, both ways;
                                              -- NULL if all units of either score the same
    paper_correlation double,                 -- Spearman correlation of predictivity in both, of all neurons or of
                                              -- experts' means over all; NULL if all units of either score the same
    primary key (run_id, reference_run_id, partition_id, stack, layer, family, function)
);
