-- The tables of a run: one checkpoint measured on one corpus. These files are read in the order that __init__.py has.
-- A column without a comment means what the last column of its name above means, in this file or in those before it.
-- [measured]: NULL if unknown, of imported results; [late]: missing in older files; [text]: may be missing in packs.
--
-- The keys of a run are repeated in every table of measurements: a constant column costs nothing in Parquet, and lets a
-- query filter on a model or a step without a join, skipping whole files.

-- one measurement: a model at a revision, on a corpus, with the settings that define it
create table runs (
    run_id varchar not null,              -- the measurement: 16 hex digits of the digest of all that defines it
    model varchar not null,               -- hub id or folder name, as given
    revision varchar not null,            -- revision, branch or commit as given; main if none; random-<seed> if
                                          -- initialised
    step bigint,                          -- training step of the revision, NULL when unknown
    measurement varchar not null,         -- measured, or imported: results of others, with what they state
    weights_sha256 varchar,               -- digest of the measured model's parameters and buffers [measured]
    is_random_init boolean,               -- whether the weights are a random initialisation [measured]
    corpus varchar,                       -- name of the corpus [measured]
    corpus_sha256 varchar,                -- digest of the corpus's texts, instances and labels [measured]
    site varchar,                         -- what was read: activation (the down projection's input), gate,
                                          -- preactivation [measured]
    pooling varchar,                      -- over an instance's tokens: max, mean, abs_max or last [measured]
    special_tokens varchar,               -- drop or keep: whether special tokens of whole texts are pooled; NULL: drop,
                                          -- or unknown if imported [late]
    halves varchar,                       -- what halves a and b have none of in common: text or word; NULL: text, or
                                          -- unknown if imported [late]
    min_instances integer,                -- least positives and negatives of a function in each half, else it was left
                                          -- out; NULL: 0, or if imported [late]
    router varchar,                       -- routed or blind in a mixture of experts, NULL in a dense model
    dtype varchar,                        -- floating-point type of the weights and the forward pass [measured]
    storage varchar,                      -- floating-point type in which pooled activations were kept for scoring
                                          -- [measured]
    max_tokens integer,                   -- longest text in tokens; what lies beyond was cut [measured]
    layers varchar,                       -- the requested layers, such as 0,3-5; NULL for all
    n_texts bigint,                       -- texts run [measured]
    n_instances bigint,                   -- instances measured [measured]
    n_tokens bigint,                      -- tokens run, special tokens included [measured]
    n_truncated bigint,                   -- texts cut at max_tokens [measured]
    n_dropped bigint,                     -- instances without a token to pool (in the cut part, or none at all)
                                          -- [measured]
    seed bigint,                          -- seed of the random initialisation, NULL for given weights
    device varchar,                       -- device of the forward pass [measured]
    neuronlake_version varchar not null,  -- version of neuronlake
    torch_version varchar,                -- version of torch [measured]
    transformers_version varchar,         -- version of transformers [measured]
    python_version varchar not null,      -- version of Python
    source varchar,                       -- name of the file imported, NULL if measured
    source_sha256 varchar,                -- digest of that file, NULL if measured
    request_id varchar,                   -- digest of the request: checkpoint files or commit, corpus, settings; NULL
                                          -- if unknown [late]
    started_at timestamp with time zone not null,  -- when the job started
    duration_s double not null,           -- wall time of the job, in seconds
    primary key (run_id)
);

-- one measured feed-forward layer of a run
create table layers (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    stack varchar not null,       -- encoder or decoder
    layer smallint not null,      -- 0 at the embedding side, within its stack
    n_neurons integer not null,   -- neurons in the layer, over all native experts
    n_native_experts integer,     -- experts of a mixture-of-experts layer; NULL if dense
    activation_function varchar,  -- name of the nonlinearity, as in the model's configuration [measured]
    is_gated boolean,             -- whether the activation is act(gate) * up [measured]
    module_path varchar,          -- the down projection, or the module of all experts; several in neuron order
                                  -- [measured]
    primary key (run_id, stack, layer)
);

-- one function as a run measured it: the instances behind every score
create table run_functions (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    family varchar not null,            -- function family: semantic, knowledge, task, grammar or the corpus's own
    function varchar not null,          -- sub-function within the family
    n_positive bigint not null,         -- measured instances labelled positive
    n_negative bigint not null,         -- measured instances that count as negative
    prevalence double not null,         -- n_positive / (n_positive + n_negative): average precision at chance
    n_positive_half_a bigint not null,  -- positives in half a
    n_negative_half_a bigint not null,  -- negatives in half a
    n_positive_half_b bigint not null,  -- positives in half b
    n_negative_half_b bigint not null,  -- negatives in half b
    text_pairs double,                  -- what a neuron's correlation within texts inflates the variance of its scores
                                        -- by; NULL if none holds two, or unknown
    group_pairs double,                 -- what a neuron's correlation within groups inflates the variance of its scores
                                        -- by; NULL if none holds two, or unknown
    word_pairs double,                  -- what a neuron's correlation within words inflates the variance of its scores
                                        -- by; NULL if none holds two, or unknown
    n_text_clusters double,             -- effective number of texts that carry the labels; NULL if none holds two, or
                                        -- unknown
    n_group_clusters double,            -- effective number of groups that carry the labels; NULL if none holds two, or
                                        -- unknown
    n_word_clusters double,             -- effective number of words that carry the labels; NULL if none holds two, or
                                        -- unknown
    primary key (run_id, family, function)
);

-- one neuron of a run, its activation over the pooled instances and its weights
create table neurons (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    stack varchar not null, layer smallint not null,
    neuron integer not null,     -- index within the layer
    native_expert integer,       -- routed expert the neuron belongs to; NULL: every token's
    mean float not null,         -- mean pooled activation
    std float not null,          -- standard deviation of the pooled activation (population)
    min float not null,          -- smallest pooled activation
    max float not null,          -- largest pooled activation
    firing_rate float not null,  -- share of instances with an activation above 0
    n_routed bigint,             -- instances with a token routed to its expert; NULL: all
    input_norm float not null,   -- L2 norm of the neuron's input weights (gate and up together when gated)
    output_norm float not null,  -- L2 norm of the neuron's output weights
    text_correlation float,      -- correlation of the neuron's ranks between instances of one text; NULL if none holds
                                 -- two, or unknown
    group_correlation float,     -- correlation of the neuron's ranks between instances of one group; NULL if none holds
                                 -- two, or unknown
    word_correlation float,      -- correlation of the neuron's ranks between instances of one word; NULL if none holds
                                 -- two, or unknown
    primary key (run_id, stack, layer, neuron)
);

-- one neuron's scores as a detector of one function
create table neuron_functions (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    stack varchar not null, layer smallint not null, neuron integer not null,
    family varchar not null, function varchar not null,
    ap float not null,           -- average precision for the function, ties included; the score as imported
    ap_complement float,         -- average precision of the activation for the function's negatives [measured]
    auroc float,                 -- area under the ROC curve, ties counted half [measured]
    mean_positive float,         -- mean activation over the positives, to 16 significant bits [measured]
    mean_negative float,         -- mean activation over the negatives, to 16 significant bits [measured]
    ap_half_a float,             -- ap on half a, to 2 ** -18; NULL if the half lacks a class
    ap_half_b float,             -- ap on half b; NULL if the half lacks a class
    ap_complement_half_a float,  -- ap_complement on half a; NULL likewise
    ap_complement_half_b float,  -- ap_complement on half b; NULL likewise
    p_value float,               -- permutation p, corrected for texts and words; 1e-6 or more, rounded up to 11 bits
                                 -- [measured]
    primary key (run_id, stack, layer, neuron, family, function)
);

-- how often the router chooses one native expert for the instances of one function
create table routing (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    stack varchar not null, layer smallint not null,
    native_expert integer not null,  -- the routed expert
    family varchar not null, function varchar not null,
    share_positive float not null,   -- share of a positive's tokens sent to the expert, mean over positives
    share_negative float not null,   -- share of a negative's tokens sent to the expert, mean over negatives
    ap float not null,               -- average precision of the share as a detector of the function, ties included
    ap_complement float not null,    -- average precision of the share for the function's negatives
    auroc float not null,            -- area under the ROC curve, ties counted half
    primary key (run_id, stack, layer, native_expert, family, function)
);

-- the instances that activate a neuron most; those tied at its minimum are excluded
create table top_instances (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    stack varchar not null, layer smallint not null, neuron integer not null,
    rank smallint not null,       -- 1 for the highest activation
    corpus varchar not null,      -- name of the corpus
    instance_id bigint not null,  -- the instance, as in instances
    value float not null,         -- the pooled activation
    primary key (run_id, stack, layer, neuron, rank)
);

-- the neurons of a layer that are active on the same instances as one neuron: its closest partners
create table coactivations (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    activity varchar not null,         -- when a neuron counts as active: positive, or top-<share> of its instances
    stack varchar not null, layer smallint not null, neuron integer not null,
    partner integer not null,          -- the other neuron, of the same layer
    n_both bigint not null,            -- instances on which both are active
    n_active bigint not null,          -- instances on which the neuron is active
    n_active_partner bigint not null,  -- instances on which the partner is active
    primary key (run_id, activity, stack, layer, neuron, partner)
);

-- one tensor of the weights that a run measured
create table weight_tensors (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    tensor varchar not null,   -- name in the state of the text model
    sha256 varchar not null,   -- digest of its name, type, shape and bytes
    n_values bigint not null,  -- numbers it holds
    primary key (run_id, tensor)
);
