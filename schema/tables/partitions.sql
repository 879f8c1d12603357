-- The tables of partitions of neurons into experts, and of what the experts are functional for.

-- one partition of a model's neurons into experts
create table partitions (
    partition_id varchar not null,  -- 16 hex digits of the digest of all that defines the partition
    model varchar not null,
    revision varchar not null,      -- revision the neurons belong to
    step bigint,
    method varchar not null,        -- kmeans, coactivation, function, random, matched (within strata), native, imported
    n_experts integer not null,     -- experts in each layer, the most where layers differ
    seed bigint,                    -- seed, NULL where the method has none
    parameters varchar not null,    -- JSON object of all other parameters
    run_id varchar,                 -- run whose scores or activations were used
    half varchar,                   -- instances of the clustered scores: all, a or b; NULL if none were [late]
    source_query varchar,           -- the SQL whose rows were clustered
    objective_name varchar,         -- what the method minimises, NULL if nothing
    objective double,               -- its value, mean over layers; NULL likewise
    neuronlake_version varchar not null,
    duration_s double not null,     -- wall time, in seconds
    primary key (partition_id)
);

-- one layer of a partition: the sizes of its experts and how well they hold together
create table partition_layers (
    partition_id varchar not null,  -- the partition
    stack varchar not null, layer smallint not null,
    n_neurons integer not null,     -- neurons that are in an expert
    n_experts integer not null,     -- experts
    n_smallest integer not null,    -- neurons of the smallest expert
    n_largest integer not null,     -- neurons of the largest expert
    objective double,               -- what the method minimises, in this layer; NULL if nothing
    objective_random double,        -- that of a random partition of equal sizes; NULL likewise
    primary key (partition_id, stack, layer)
);

-- one neuron's place in a partition
create table experts (
    partition_id varchar not null, stack varchar not null, layer smallint not null, neuron integer not null,
    expert integer not null,  -- index of the expert within its layer
    primary key (partition_id, stack, layer, neuron)
);

-- whether an expert holds more top neurons of a function than when experts are permuted over neurons
create table alignments (
    alignment_id varchar not null,  -- 16 hex digits of the digest of all that defines the test
    run_id varchar not null,        -- the measurement: 16 hex digits of the digest of all that defines it
    model varchar not null,
    revision varchar not null,      -- revision, branch or commit as given; main if none; random-<seed> if initialised
    step bigint, partition_id varchar not null,
    null_model varchar not null,    -- free: any neuron of the layer; matched: of similar norm and firing rate;
                                    -- control-text, control-word and others: labels permuted so, as in
                                    -- control_functions
    half varchar not null,          -- instances the top neurons were chosen on: all, a or b
    ranking varchar,                -- what chose the top neurons: lift or predictivity; NULL: lift
    stack varchar not null, layer smallint not null, expert integer not null,
    family varchar not null,        -- function family
    function varchar not null,      -- sub-function; * for the family: all its functions' top lists together
    n_neurons integer not null,     -- neurons of the expert
    n_top integer not null,         -- entries of the top lists that the expert holds
    n_expected double not null,     -- mean of n_top under the null: experts permuted over neurons, or control lists
    p_value double not null,        -- chance of at least n_top, exact; of a family the share of permutations, the
                                    -- observed one counted; under a control the tail of a beta-binomial with the
                                    -- moments of control lists
    p_nominal double not null,      -- hypergeometric tail; of a family the binomial of the pooled lists
    n_permutations bigint,          -- permutations behind p_value, of a control its lists; NULL where it is exact
    smallest_p double,              -- the least p_value the test can give [late]
    seed bigint not null,           -- seed of the permutations
    primary key (alignment_id, null_model, half, stack, layer, expert, family, function)
);
