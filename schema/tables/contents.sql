-- The tables of what can be read of a neuron: tokens it fires on, what its weights stand for, what others say of it.

-- a token of a text on which a neuron fires, of the texts on either side of a function that activate it most
create table top_tokens (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    stack varchar not null, layer smallint not null, neuron integer not null,
    family varchar not null,       -- function family
    function varchar not null,     -- the function: the neuron is its first of the layer, or of its first 10 over all
                                   -- layers
    is_positive boolean not null,  -- whether the instance is positive for the function
    rank smallint not null,        -- rank of the instance among those of this side, 1 for the highest activation
    token integer not null,        -- place of the token in the text as the tokenizer cuts it, from 0; at most 3 of an
                                   -- instance
    corpus varchar not null,       -- name of the corpus
    instance_id bigint not null,   -- the instance, as in instances
    start_char integer not null,   -- where the token starts in the text, in characters; 0, as its end, if it is not of
                                   -- the text
    end_char integer not null,     -- where it ends
    activation float not null,     -- activation of the neuron at the token
    primary key (run_id, stack, layer, neuron, family, function, is_positive, rank, token)
);

-- one token of the vocabulary that a neuron's weights stand for, without any text
create table neuron_vocabulary (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    stack varchar not null, layer smallint not null, neuron integer not null,
    direction varchar not null,  -- writes: output weights by unembedding; reads: input weights (the gate's) by
                                 -- embedding
    rank smallint not null,      -- 1 to 10 from the highest weight down; -1 to -10 from the lowest up
    token varchar not null,      -- the token, without the mark of a word's beginning
    is_piece boolean not null,   -- whether it is a piece that goes on with a word, not its beginning
    weight float not null,       -- product of the neuron's weights with those of the token
    primary key (run_id, stack, layer, neuron, direction, rank)
);

-- what others say of a neuron in words
create table explanations (
    model varchar not null, revision varchar not null,
    stack varchar not null, layer smallint not null, neuron integer not null,
    place smallint not null,         -- number of the explanation among those of the neuron in the source, from 0
    explanation varchar not null,    -- the words
    score double,                    -- how well it explains the neuron, as the source states it
    source varchar not null,         -- name of the file imported
    source_sha256 varchar not null,  -- digest of that file
    primary key (source_sha256, model, revision, stack, layer, neuron, place)
);

-- how much of others' text a router sent to a native expert
create table expert_traffic (
    model varchar not null, revision varchar not null,
    stack varchar not null, layer smallint not null, native_expert integer not null,
    family varchar not null,    -- kind of the text, as the source names it
    function varchar not null,  -- the text within its kind
    share double not null,      -- share of the text's tokens sent to the expert
    n_tokens bigint,            -- tokens behind it; NULL if unknown
    source varchar not null, source_sha256 varchar not null,
    primary key (source_sha256, model, revision, stack, layer, native_expert, family, function)
);
