-- The tables of what comes first: each neuron's best functions, each function's top neurons, and those of controls.
-- They follow from scores, and spare a question from reading all of them; of control functions no more is kept.

-- the function of a family that one neuron is the best evidence of
create table neuron_best (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    stack varchar not null, layer smallint not null, neuron integer not null, family varchar not null,
    function varchar not null,     -- the family's function with the best evidence: least p, then highest lift
    n_functions integer not null,  -- functions of the family, of which it is the best
    ap float not null,             -- its average precision
    ap_complement float,           -- its average precision for the function's negatives [measured]
    p_value float,                 -- its p value, as in neuron_functions: of one function, not of the best of many
                                   -- [measured]
    lift_error float,              -- half the distance of its lifts on the halves; NULL if one lacks it
    second_function varchar,       -- the function that comes next; NULL if there is one
    second_ap float,               -- average precision of that function; NULL likewise
    second_ap_complement float,    -- its average precision for the negatives, NULL likewise [measured]
    held_out_function varchar,     -- the function with the best evidence on half a alone; NULL if the half lacks a
                                   -- class of each
    held_out_evidence float,       -- its deviations above chance on half a; NULL likewise
    held_out_lift float,           -- its lift on half b, in the direction of half a; NULL likewise
    primary key (run_id, stack, layer, neuron, family)
);

-- one of the neurons of a layer that rank highest for a function
create table function_top_neurons (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    stack varchar not null, layer smallint not null, family varchar not null,
    function varchar not null,   -- sub-function within the family
    ranked_by varchar not null,  -- what orders neurons: lift (predictivity where that is unknown), or predictivity
    half varchar not null,       -- instances they are ordered on: all, a or b
    rank integer not null,       -- 1 for the first; as many as 1% of the layer's neurons, ties going to the lower index
    neuron integer not null,
    ap float not null,           -- average precision of the neuron, on all instances
    ap_complement float,         -- average precision for the function's negatives, on all instances [measured]
    primary key (run_id, stack, layer, family, function, ranked_by, half, rank)
);

-- one function of a run with its labels permuted, so that neurons detect it by chance alone
create table control_functions (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    control varchar not null,    -- what kept its labels together when they were permuted: instance, text, group, word;
                                 -- word-in-stratum: word, and labels stay in their stratum, such as a part of speech
    draw integer not null,       -- number of the permutation, from 0, and its seed
    family varchar not null, function varchar not null,
    n_positive bigint not null,  -- measured instances labelled positive, as many as in the run
    n_negative bigint not null,  -- measured instances that count as negative, as many as in the run
    n_kept bigint not null,      -- instances that kept a label of their own text, group or word, for want of others
    primary key (run_id, control, draw, family, function)
);

-- the function of a family that one neuron is the best evidence of, when labels are permuted
create table control_best (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    control varchar not null, draw integer not null,
    stack varchar not null, layer smallint not null, neuron integer not null, family varchar not null,
    function varchar not null,  -- the family's function with the best evidence: least p, then highest lift
    n_functions integer not null,
    ap float not null,          -- its average precision
    ap_complement float,        -- its average precision for the function's negatives [measured]
    p_value float, lift_error float, second_function varchar, second_ap float, second_ap_complement float,
    held_out_function varchar, held_out_evidence float, held_out_lift float,
    primary key (run_id, control, draw, stack, layer, neuron, family)
);

-- one of the neurons of a layer that rank highest for a function, when labels are permuted
create table control_top_neurons (
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    control varchar not null, draw integer not null, stack varchar not null, layer smallint not null,
    family varchar not null,
    function varchar not null,  -- sub-function within the family
    ranked_by varchar not null, half varchar not null, rank integer not null, neuron integer not null,
    ap float not null,          -- average precision of the neuron, on all instances
    ap_complement float,        -- average precision for the function's negatives, on all instances [measured]
    primary key (run_id, control, draw, stack, layer, family, function, ranked_by, half, rank)
);
