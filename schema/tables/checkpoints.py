"""The tables of series of checkpoints, and of studies of when experts emerge in them."""

from .declaration import FUNCTION, NEURON, RUN, Column, Table

# A partition of a study of a series of checkpoints: of one checkpoint, in a lineage of its own.
_PARTITION = (
    Column("emergence_id", "string", "the study"),
    *RUN[1:],
    Column(
        "role",
        "string",
        "cold: made independently at each checkpoint; warm: started from the experts of the checkpoint before; native: "
        "the model's own; random: random groups of equal number and size; matched: the experts of the last "
        "checkpoint permuted among neurons of similar input norm and firing rate",
    ),
    Column("seed", "int64", "seed of the partitions of this role, 0 where nothing is drawn"),
)


def _correlation(name: str, description: str) -> Column:
    return Column(name, "float64", f"{description}; NULL if all units of either score the same", nullable=True)


_PARTITION_KEYS = ("emergence_id", "role", "seed", "revision")

TABLES = (
    Table.of(
        "checkpoints",
        ("model", "revision", "listed_at"),
        "one checkpoint of a series as its source listed it, whether it could be measured or not",
        *RUN[1:],
        Column("source", "string", "hub or folder: where the series was listed; file: a list of revisions"),
        Column("listed_at", "timestamp", "when it was listed; of several rows of a revision the newest counts"),
    ),
    Table.of(
        "emergence_studies",
        ("emergence_id",),
        "one study of when experts and neurons settle over a series of checkpoints",
        Column("emergence_id", "string", "16 hex digits of the digest of all that defines the study"),
        Column("model", "string", "hub id or folder name, as given"),
        Column("last_run_id", "string", "run of the last checkpoint, which identifies the series"),
        Column("corpus", "string", "corpus of the runs"),
        Column("method", "string", "how experts are made: kmeans, coactivation, function or native"),
        Column("n_experts", "int32", "experts in each layer, the most where layers differ"),
        Column("parameters", "string", "JSON object of all other parameters of the partitions"),
        Column("n_seeds", "int32", "seeds of cold partitions"),
        Column("n_random", "int32", "random partitions; as many are matched, where norms are known"),
        Column("seed", "int64", "first seed"),
        Column("n_checkpoints", "int32", "checkpoints of the series"),
        Column("first_step", "int64", "training step of the first"),
        Column("last_step", "int64", "training step of the last"),
        Column("neuronlake_version", "string", "version of neuronlake"),
        Column("started_at", "timestamp", "when the study started"),
        Column("duration_s", "float64", "wall time, in seconds"),
    ),
    Table.of(
        "emergence_partitions",
        _PARTITION_KEYS,
        "one partition of a study: of each checkpoint by clustering, of the last alone if native, random or matched",
        *_PARTITION,
        Column("run_id", "string", "run of the checkpoint in the series"),
        Column("partition_id", "string", "the partition"),
    ),
    Table.of(
        "partition_changes",
        (*_PARTITION_KEYS, "reference", "stack", "layer"),
        "how much the partition of a layer at one checkpoint agrees with another of the same study",
        *_PARTITION,
        Column(
            "reference",
            "string",
            "previous: the checkpoint before; last: the last one; seed: the same checkpoint, the agreement to compare "
            "the other two with. Cold partitions are compared with the other seeds, on average",
        ),
        Column("reference_step", "int64", "training step of the partition compared with"),
        *NEURON[:2],
        Column("adjusted_rand_index", "float64", "agreement on pairs of neurons; 0 by chance, 1 if equal"),
        Column("normalized_mutual_information", "float64", "by the mean of both entropies; 0 to 1, not 0 by chance"),
        Column("variation_of_information", "float64", "in nats: 0 if equal"),
    ),
    Table.of(
        "expert_tracks",
        (*_PARTITION_KEYS, "stack", "layer", "expert"),
        "one expert of one checkpoint and the expert of the last checkpoint that it becomes",
        *_PARTITION,
        Column("run_id", "string", "run of the checkpoint in the series"),
        Column("partition_id", "string", "the partition"),
        *NEURON[:2],
        Column("expert", "int32", "index of the expert within its layer and partition"),
        Column("track", "int32", "index, at the last checkpoint, of the expert it is matched to, link by link"),
        Column("n_neurons", "int32", "neurons of the expert"),
        Column("n_shared_next", "int32", "of these, in the expert of the track at the next checkpoint", nullable=True),
        Column("n_shared_last", "int32", "of these, in the expert of the track at the last checkpoint"),
    ),
    Table.of(
        "stabilities",
        ("run_id", "reference_run_id", "partition_id", "stack", "layer", "family", "function"),
        "how similar the scores of a layer's neurons, or of a partition's experts, are for a function in two runs",
        *RUN,
        Column("reference_run_id", "string", "the run it is compared to"),
        Column("partition_id", "string", "the partition, * of neurons"),
        *NEURON[:2],
        *FUNCTION,
        Column("n_units", "int32", "neurons or experts compared: neurons alive in both, experts that have such"),
        Column(
            "n_dead",
            "int32",
            "neurons left out, as they are dead in either, of those in an expert; NULL if unknown of either",
            nullable=True,
        ),
        _correlation("correlation", "Spearman correlation of the units' scores in both, uncorrected"),
        _correlation("correlation_half_a", "the same of the scores on half a"),
        _correlation("correlation_half_b", "the same of the scores on half b"),
        _correlation("split_half_correlation", "Spearman correlation of the scores on half a and on half b"),
        _correlation("reference_split_half_correlation", "the same in the run it is compared to"),
        _correlation("cross_half_correlation", "mean correlation of half a in one with half b in the other, both ways"),
        _correlation(
            "paper_correlation",
            "Spearman correlation of predictivity in both, of all neurons or of experts' means over all",
        ),
    ),
)
