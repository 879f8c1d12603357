"""The tables of perturbation studies: which neurons were perturbed, and the effect on each function."""

from .declaration import NEURON, RUN, Column, Table

# A study of perturbations, and within it a source, as several tables name them.
_STUDY = (Column("perturbation_id", "string", "the study"), *RUN[1:])
_SOURCE = (
    *_STUDY,
    Column("source_family", "string", "family whose neurons were perturbed; * of a control shared by all sources"),
    Column("source_function", "string", "function whose neurons were perturbed; * likewise"),
    Column(
        "selection",
        "string",
        "functional: its functional experts first; top: its top neurons; query: rows of SQL; random, matched, "
        "nonfunctional: controls; none: no neurons",
    ),
    Column("dose", "float64", "share of the studied layers' neurons that were perturbed"),
)
_SOURCE_KEYS = ("perturbation_id", "source_family", "source_function", "selection", "dose")
_TARGET = (
    Column("target_family", "string", "family that was read out"),
    Column("target_function", "string", "function that was read out"),
)

PERTURBATION_TABLES = (
    Table.of(
        "perturbation_studies",
        ("perturbation_id",),
        "one study: neurons of a model perturbed on a corpus, source by source, and all its functions read out",
        Column("perturbation_id", "string", "16 hex digits of the digest of all that defines the study"),
        *RUN,
        Column("weights_sha256", "string", "digest of the perturbed model's parameters and buffers"),
        Column("corpus", "string", "name of the corpus that was read out"),
        Column("corpus_sha256", "string", "digest of its texts, instances and labels"),
        Column("selection", "string", "how neurons were chosen: functional, top or query"),
        Column("partition_id", "string", "partition whose experts were chosen, NULL if none", nullable=True),
        Column("source_query", "string", "the SQL that chose them, NULL if none", nullable=True),
        Column("kind", "string", "shuffle, noise, zero, mean, clamp, route-away or route-only"),
        Column("scale", "float64", "factor of the perturbation"),
        Column("readout", "string", "probe, loss or choice"),
        Column("metric", "string", "unit of what was read out"),
        Column("layers", "string", "the layers studied, such as 0,3-5; NULL for all", nullable=True),
        Column("n_layer_neurons", "int64", "neurons of these layers: a dose is a share of them"),
        Column("n_sources", "int32", "sources: functions whose neurons were perturbed"),
        Column("n_targets", "int32", "functions read out"),
        Column("n_seeds", "int32", "seeds of each control, and of a kind that draws"),
        Column(
            "energy_ratio",
            "float64",
            "largest ratio of energies of a matched set and its source, either way; NULL before version 3",
            nullable=True,
        ),
        Column("n_texts", "int64", "texts read out"),
        Column("n_instances", "int64", "instances read out"),
        Column("n_fitted_texts", "int64", "texts of the other half that the readout was fitted on", nullable=True),
        Column("max_tokens", "int32", "longest text in tokens; what lies beyond was cut"),
        Column("batch_tokens", "int64", "tokens of a batch, which shuffle permutes over"),
        Column("dtype", "string", "floating-point type of the weights and the forward pass"),
        Column("n_bootstrap", "int64", "resamples behind intervals"),
        Column("n_permutations", "int64", "permutations behind p values"),
        Column("seed", "int64", "first seed; the seeds of the study follow it"),
        Column("n_cells", "int64", "cells: passes over the texts with one perturbation, the one without included"),
        Column("n_cells_reused", "int64", "of these, known from earlier studies or an attempt that was stopped"),
        Column("cell_s", "float64", "wall time of a cell, in seconds; NULL if all were reused", nullable=True),
        Column("device", "string", "device of the forward pass"),
        Column("neuronlake_version", "string", "version of neuronlake"),
        Column("torch_version", "string", "version of torch"),
        Column("transformers_version", "string", "version of transformers"),
        Column("started_at", "timestamp", "when the study started"),
        Column("duration_s", "float64", "wall time, in seconds"),
    ),
    Table.of(
        "perturbations",
        (*_SOURCE_KEYS, "seed", "target_family", "target_function"),
        "the effect on one target function of perturbing the neurons of one source function, or of a control",
        *_SOURCE,
        Column("seed", "int64", "seed of the selection and the perturbation"),
        *_TARGET,
        Column("cell_id", "string", "16 hex digits of the digest of all that defines the pass"),
        Column("run_id", "string", "run the selection comes from", nullable=True),
        Column("partition_id", "string", "partition the selection comes from", nullable=True),
        Column("source_query", "string", "the SQL that selected the neurons", nullable=True),
        Column("kind", "string", "shuffle, noise, zero, mean, clamp, route-away or route-only"),
        Column("scale", "float64", "factor of the perturbation"),
        Column("n_neurons", "int64", "neurons perturbed"),
        Column(
            "n_functional",
            "int64",
            "of these, in experts that are functional for the source; NULL of other selections",
            nullable=True,
        ),
        Column(
            "energy_share",
            "float64",
            "their share of the layers' energy: mean square of pooled activations times squared output norm",
            nullable=True,
        ),
        Column(
            "overlap_source",
            "string",
            "family/function of the other source of whose neurons of this dose they hold most; NULL if of none, and "
            "before version 3",
            nullable=True,
        ),
        Column("overlap_share", "float64", "share of its neurons that they hold; NULL likewise", nullable=True),
        Column("readout", "string", "probe, loss or choice"),
        Column("metric", "string", "unit of baseline and perturbed"),
        Column("baseline", "float64", "readout of the unperturbed model"),
        Column("perturbed", "float64", "readout under the perturbation"),
        Column("effect", "float64", "how much worse perturbed is than baseline; below 0 if better"),
        Column("n_instances", "int64", "instances read out"),
    ),
    Table.of(
        "perturbed_neurons",
        (*_SOURCE_KEYS[:-1], "seed", "rank"),
        "the neurons of one source or control, in the order in which higher doses add them",
        *_SOURCE[:-1],
        Column("seed", "int64", "seed of the selection"),
        Column("rank", "int32", "1 for the first; a dose of n neurons perturbs those up to rank n"),
        *NEURON,
    ),
    Table.of(
        "perturbed_instances",
        ("perturbation_id", "cell_id", "target_family", "target_function", "instance_id"),
        "what was read out of one instance in one cell; of a perturbed cell only what differs from the baseline",
        *_STUDY,
        Column("cell_id", "string", "the pass, as in perturbations"),
        Column("target_family", "string", "family that was read out; * where all targets read the same"),
        Column("target_function", "string", "function that was read out; * likewise"),
        Column("instance_id", "int64", "the instance of the study's corpus"),
        Column("is_positive", "bool", "whether it is a positive of the target; NULL likewise", nullable=True),
        Column("value", "float32", "probe and choice: 1 if right, 0 if wrong; loss: nats a token"),
    ),
    Table.of(
        "perturbation_contrasts",
        (*_SOURCE_KEYS, "control", "target_family", "target_function"),
        "the effect of one source's neurons on one target, against a control, over all seeds and texts",
        *_SOURCE,
        Column(
            "control",
            "string",
            "none: the unperturbed model; random, matched, nonfunctional: such neurons; other: those of the other "
            "sources that share no more neurons with it than 95% of sets drawn at random",
        ),
        *_TARGET,
        Column("is_on_target", "bool", "whether the target is the source function"),
        Column(
            "is_readable",
            "bool",
            "whether the unperturbed readout's 95% interval lies above chance, as of any loss: these alone count in "
            "selectivity; NULL before version 3",
            nullable=True,
        ),
        Column("n_sets", "int32", "perturbations of the source, one a seed"),
        Column("n_control_sets", "int32", "perturbations of the control; 0 of none"),
        Column(
            "control_overlap",
            "float64",
            "share of the source's neurons that the control's sets hold, mean; NULL of none, and before version 3",
            nullable=True,
        ),
        Column(
            "control_energy_ratio",
            "float64",
            "energy of the control's sets, mean, to that of the source's neurons; NULL of none, and before version 3",
            nullable=True,
        ),
        Column("effect", "float64", "effect of the perturbation, mean over the sets"),
        Column("control_effect", "float64", "effect of the control, mean over its sets; 0 of none"),
        Column("difference", "float64", "effect - control_effect"),
        Column("difference_low", "float64", "lower end of its 95% bootstrap interval, over texts and control sets"),
        Column("difference_high", "float64", "upper end"),
        Column("p_texts", "float64", "paired permutation p over texts, two-sided: would other texts agree?"),
        Column("p_sets", "float64", "two-sided Student p among the control sets; NULL without any", nullable=True),
        *(
            Column(name, "float64", f"{description}; NULL off target", nullable=True)
            for name, description in (
                ("selectivity", "difference on target less its mean over all other readable targets"),
                ("selectivity_low", "lower end of its 95% bootstrap interval"),
                ("selectivity_high", "upper end"),
                ("selectivity_p_texts", "paired permutation p over texts of the selectivity"),
                ("selectivity_p_sets", "Student p of the selectivity among the control sets'; NULL without any"),
            )
        ),
    ),
    Table.of(
        "perturbation_means",
        ("perturbation_id", "selection", "dose", "control"),
        "the effect on the sources' own functions against a control, mean over the sources of a study",
        *_STUDY,
        *_SOURCE[-2:],
        Column("control", "string", "as in perturbation_contrasts"),
        Column("n_sources", "int32", "sources that are read out as targets too"),
        Column("difference", "float64", "effect less the control's on the own function, mean over sources"),
        Column("difference_low", "float64", "lower end of its 95% bootstrap interval, over texts"),
        Column("difference_high", "float64", "upper end"),
        Column("difference_p_texts", "float64", "paired permutation p over texts, two-sided"),
        *(
            Column(name, "float64", f"{description}; NULL of a single target", nullable=True)
            for name, description in (
                ("selectivity", "difference on target less that on all other readable targets, mean over sources"),
                ("selectivity_low", "lower end of its 95% bootstrap interval, over texts"),
                ("selectivity_high", "upper end"),
                ("selectivity_p_texts", "paired permutation p over texts, two-sided"),
            )
        ),
        Column(
            "selectivity_p_functions",
            "float64",
            "share of permutations of the sources' functions with as much selectivity; NULL of a single source",
            nullable=True,
        ),
    ),
)
