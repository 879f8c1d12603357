-- The tables of perturbation studies: which neurons were perturbed, and the effect on each function.

-- one study: neurons of a model perturbed on a corpus, source by source, and all its functions read out
create table perturbation_studies (
    perturbation_id varchar not null,       -- 16 hex digits of the digest of all that defines the study
    run_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    weights_sha256 varchar not null,        -- digest of the perturbed model's parameters and buffers
    corpus varchar not null,                -- name of the corpus that was read out
    corpus_sha256 varchar not null,
    selection varchar not null,             -- how neurons were chosen: functional, top or query
    ranking varchar,                        -- what ordered top neurons and those of experts: lift or predictivity; NULL
                                            -- of a query, and before: lift
    partition_id varchar,                   -- partition whose experts were chosen, NULL if none
    source_query varchar,                   -- the SQL that chose them, NULL if none
    kind varchar not null,                  -- shuffle, noise, zero, mean, clamp, route-away or route-only
    scale double not null,                  -- factor of the perturbation
    readout varchar not null,               -- probe, loss or choice
    metric varchar not null,                -- unit of what was read out
    layers varchar,                         -- the layers studied, such as 0,3-5; NULL for all
    n_layer_neurons bigint not null,        -- neurons of these layers: a dose is a share of them
    n_sources integer not null,             -- sources: functions whose neurons were perturbed
    n_targets integer not null,             -- functions read out
    n_seeds integer not null,               -- seeds of each control, and of a kind that draws
    energy_ratio double,                    -- largest ratio of energies of a matched set and its source, either way;
                                            -- NULL before version 3
    n_texts bigint not null,                -- texts read out
    n_instances bigint not null,            -- instances read out
    n_fitted_texts bigint,                  -- texts of the other half that the readout was fitted on
    max_tokens integer not null,            -- longest text in tokens; what lies beyond was cut
    batch_tokens bigint not null,           -- tokens of a batch, which shuffle permutes over
    dtype varchar not null,                 -- floating-point type of the weights and the forward pass
    n_bootstrap bigint not null,            -- resamples behind intervals
    n_permutations bigint not null,         -- permutations behind p values
    seed bigint not null,                   -- first seed; the seeds of the study follow it
    n_cells bigint not null,                -- cells: passes over the texts with one perturbation, the one without
                                            -- included
    n_cells_reused bigint not null,         -- of these, known from earlier studies or an attempt that was stopped
    cell_s double,                          -- wall time of a cell, in seconds; NULL if all were reused
    device varchar not null,                -- device of the forward pass
    neuronlake_version varchar not null,
    torch_version varchar not null,         -- version of torch
    transformers_version varchar not null,  -- version of transformers
    started_at timestamp with time zone not null,  -- when the study started
    duration_s double not null,
    primary key (perturbation_id)
);

-- the effect on one target function of perturbing the neurons of one source function, or of a control
create table perturbations (
    perturbation_id varchar not null,  -- the study
    model varchar not null, revision varchar not null, step bigint,
    source_family varchar not null,    -- family whose neurons were perturbed; * of a control shared by all sources
    source_function varchar not null,  -- function whose neurons were perturbed; * likewise
    selection varchar not null,        -- functional: its functional experts first; top: its top neurons; query: rows of
                                       -- SQL; random, matched, nonfunctional: controls; none: no neurons
    dose double not null,              -- share of the studied layers' neurons that were perturbed
    seed bigint not null,              -- seed of the selection and the perturbation
    target_family varchar not null,    -- family that was read out
    target_function varchar not null,  -- function that was read out
    cell_id varchar not null,          -- 16 hex digits of the digest of all that defines the pass
    run_id varchar,                    -- run the selection comes from
    partition_id varchar,              -- partition the selection comes from
    source_query varchar,              -- the SQL that selected the neurons
    kind varchar not null, scale double not null,
    n_neurons bigint not null,         -- neurons perturbed
    n_functional bigint,               -- of these, in experts that are functional for the source; NULL of other
                                       -- selections
    energy_share double,               -- their share of the layers' energy: mean square of pooled activations times
                                       -- squared output norm
    overlap_source varchar,            -- family/function of the other source of whose neurons of this dose they hold
                                       -- most; NULL if of none, and before version 3
    overlap_share double,              -- share of its neurons that they hold; NULL likewise
    readout varchar not null,
    metric varchar not null,           -- unit of baseline and perturbed
    baseline double not null,          -- readout of the unperturbed model
    perturbed double not null,         -- readout under the perturbation
    effect double not null,            -- how much worse perturbed is than baseline; below 0 if better
    n_instances bigint not null,
    primary key (perturbation_id, source_family, source_function, selection, dose, seed, target_family, target_function)
);

-- the neurons of one source or control, in the order in which higher doses add them
create table perturbed_neurons (
    perturbation_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    source_family varchar not null, source_function varchar not null, selection varchar not null,
    seed bigint not null,   -- seed of the selection
    rank integer not null,  -- 1 for the first; a dose of n neurons perturbs those up to rank n
    stack varchar not null, layer smallint not null, neuron integer not null,
    primary key (perturbation_id, source_family, source_function, selection, seed, rank)
);

-- what was read out of one instance in one cell; of a perturbed cell only what differs from the baseline
create table perturbed_instances (
    perturbation_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    cell_id varchar not null,          -- the pass, as in perturbations
    target_family varchar not null,    -- family that was read out; * where all targets read the same
    target_function varchar not null,  -- function that was read out; * likewise
    instance_id bigint not null,       -- the instance of the study's corpus
    is_positive boolean,               -- whether it is a positive of the target; NULL likewise
    value float not null,              -- probe and choice: 1 if right, 0 if wrong; loss: nats a token
    primary key (perturbation_id, cell_id, target_family, target_function, instance_id)
);

-- the effect of one source's neurons on one target, against a control, over all seeds and texts
create table perturbation_contrasts (
    perturbation_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    source_family varchar not null, source_function varchar not null, selection varchar not null, dose double not null,
    control varchar not null,          -- none: the unperturbed model; random, matched, nonfunctional: such neurons;
                                       -- other: those of the other sources that share no more neurons with it than 95%
                                       -- of sets drawn at random
    target_family varchar not null,    -- family that was read out
    target_function varchar not null,  -- function that was read out
    is_on_target boolean not null,     -- whether the target is the source function
    is_readable boolean,               -- whether the unperturbed readout's 95% interval lies above chance, as of any
                                       -- loss: these alone count in selectivity; NULL before version 3
    n_sets integer not null,           -- perturbations of the source, one a seed
    n_control_sets integer not null,   -- perturbations of the control; 0 of none
    control_overlap double,            -- share of the source's neurons that the control's sets hold, mean; NULL of
                                       -- none, and before version 3
    control_energy_ratio double,       -- energy of the control's sets, mean, to that of the source's neurons; NULL of
                                       -- none, and before version 3
    effect double not null,            -- effect of the perturbation, mean over the sets
    control_effect double not null,    -- effect of the control, mean over its sets; 0 of none
    difference double not null,        -- effect - control_effect
    difference_low double not null,    -- lower end of its 95% bootstrap interval, over texts and control sets
    difference_high double not null,   -- upper end
    p_texts double not null,           -- paired permutation p over texts, two-sided: would other texts agree?
    p_sets double,                     -- two-sided Student p among the control sets; NULL without any
    selectivity double,                -- difference on target less its mean over all other readable targets; NULL off
                                       -- target
    selectivity_low double,            -- lower end of its 95% bootstrap interval; NULL off target
    selectivity_high double,           -- upper end; NULL off target
    selectivity_p_texts double,        -- paired permutation p over texts of the selectivity; NULL off target
    selectivity_p_sets double,         -- Student p of the selectivity among the control sets'; NULL without any; NULL
                                       -- off target
    primary key (perturbation_id, source_family, source_function, selection, dose, control, target_family,
        target_function)
);

-- the effect on the sources' own functions against a control, mean over the sources of a study
create table perturbation_means (
    perturbation_id varchar not null, model varchar not null, revision varchar not null, step bigint,
    selection varchar not null, dose double not null,
    control varchar not null,            -- as in perturbation_contrasts
    n_sources integer not null,          -- sources that are read out as targets too
    difference double not null,          -- effect less the control's on the own function, mean over sources
    difference_low double not null,      -- lower end of its 95% bootstrap interval, over texts
    difference_high double not null,
    difference_p_texts double not null,  -- paired permutation p over texts, two-sided
    selectivity double,                  -- difference on target less that on all other readable targets, mean over
                                         -- sources; NULL of a single target
    selectivity_low double,              -- lower end of its 95% bootstrap interval, over texts; NULL of a single target
    selectivity_high double,             -- upper end; NULL of a single target
    selectivity_p_texts double,          -- paired permutation p over texts, two-sided; NULL of a single target
    selectivity_p_functions double,      -- share of permutations of the sources' functions with as much selectivity;
                                         -- NULL of a single source
    primary key (perturbation_id, selection, dose, control)
);
