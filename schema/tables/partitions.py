"""The tables of partitions of neurons into experts, and of what the experts are functional for."""

from .declaration import NEURON, RUN, Column, Table

TABLES = (
    Table.of(
        "partitions",
        ("partition_id",),
        "one partition of a model's neurons into experts",
        Column("partition_id", "string", "16 hex digits of the digest of all that defines the partition"),
        Column("model", "string", "hub id or folder name, as given"),
        Column("revision", "string", "revision the neurons belong to"),
        Column("step", "int64", "training step of the revision, NULL when unknown", nullable=True),
        Column("method", "string", "kmeans, coactivation, function, random, matched (within strata), native, imported"),
        Column("n_experts", "int32", "experts in each layer, the most where layers differ"),
        Column("seed", "int64", "seed, NULL where the method has none", nullable=True),
        Column("parameters", "string", "JSON object of all other parameters"),
        Column("run_id", "string", "run whose scores or activations were used", nullable=True),
        Column(
            "half",
            "string",
            "instances of the clustered scores: all, a or b; NULL if none were",
            nullable=True,
            is_late=True,
        ),
        Column("source_query", "string", "the SQL whose rows were clustered", nullable=True),
        Column("objective_name", "string", "what the method minimises, NULL if nothing", nullable=True),
        Column("objective", "float64", "its value, mean over layers; NULL likewise", nullable=True),
        Column("neuronlake_version", "string", "version of neuronlake"),
        Column("duration_s", "float64", "wall time, in seconds"),
    ),
    Table.of(
        "partition_layers",
        ("partition_id", "stack", "layer"),
        "one layer of a partition: the sizes of its experts and how well they hold together",
        Column("partition_id", "string", "the partition"),
        *NEURON[:2],
        Column("n_neurons", "int32", "neurons that are in an expert"),
        Column("n_experts", "int32", "experts"),
        Column("n_smallest", "int32", "neurons of the smallest expert"),
        Column("n_largest", "int32", "neurons of the largest expert"),
        Column("objective", "float64", "what the method minimises, in this layer; NULL if nothing", nullable=True),
        Column(
            "objective_random", "float64", "that of a random partition of equal sizes; NULL likewise", nullable=True
        ),
    ),
    Table.of(
        "experts",
        ("partition_id", "stack", "layer", "neuron"),
        "one neuron's place in a partition",
        Column("partition_id", "string", "the partition"),
        *NEURON,
        Column("expert", "int32", "index of the expert within its layer"),
    ),
    Table.of(
        "alignments",
        ("alignment_id", "null_model", "half", "stack", "layer", "expert", "family", "function"),
        "whether an expert holds more top neurons of a function than when experts are permuted over neurons",
        Column("alignment_id", "string", "16 hex digits of the digest of all that defines the test"),
        *RUN,
        Column("partition_id", "string", "the partition"),
        Column(
            "null_model",
            "string",
            "free: any neuron of the layer; matched: of similar norm and firing rate; "
            "control-text, control-word and others: labels permuted so, as in control_functions",
        ),
        Column("half", "string", "instances the top neurons were chosen on: all, a or b"),
        Column("ranking", "string", "what chose the top neurons: lift or predictivity; NULL: lift", nullable=True),
        *NEURON[:2],
        Column("expert", "int32", "index of the expert within its layer"),
        Column("family", "string", "function family"),
        Column("function", "string", "sub-function; * for the family: all its functions' top lists together"),
        Column("n_neurons", "int32", "neurons of the expert"),
        Column("n_top", "int32", "entries of the top lists that the expert holds"),
        Column(
            "n_expected", "float64", "mean of n_top under the null: experts permuted over neurons, or control lists"
        ),
        Column(
            "p_value",
            "float64",
            "chance of at least n_top, exact; of a family the share of permutations, the observed one counted; "
            "under a control the tail of a beta-binomial with the moments of control lists",
        ),
        Column("p_nominal", "float64", "hypergeometric tail; of a family the binomial of the pooled lists"),
        Column(
            "n_permutations",
            "int64",
            "permutations behind p_value, of a control its lists; NULL where it is exact",
            nullable=True,
        ),
        Column("smallest_p", "float64", "the least p_value the test can give", nullable=True, is_late=True),
        Column("seed", "int64", "seed of the permutations"),
    ),
)
