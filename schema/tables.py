"""Every table of a store, declared once. Read this file first.

The store checks what it writes against these declarations, ``neuronlake tables`` prints them, and
docs/tables.md is generated from them. Names are a contract: columns and tables may be added, never renamed.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ..errors import UnknownNameError
from .columns import FUNCTION, NEURON, RUN
from .emergence_tables import EMERGENCE_TABLES
from .perturbation_tables import PERTURBATION_TABLES
from .table import Column, ColumnType, Table

__all__ = ["SCHEMA_VERSION", "TABLES", "table"]

SCHEMA_VERSION = 2


def _measured(name: str, type_: ColumnType, description: str) -> Column:
    """Return a column that every measurement of ours fills, and results of others may lack."""
    return Column(name, type_, f"{description}; NULL if unknown, of imported results", nullable=True)


_ALL = (
    Table(
        "runs",
        ("run_id",),
        "one measurement: a model at a revision, on a corpus, with the settings that define it",
        (
            *RUN,
            Column(
                "measurement", "string", "measured, or imported: results of others, of which what they say is known"
            ),
            _measured("weights_sha256", "string", "digest of the measured model's parameters and buffers"),
            _measured("is_random_init", "bool", "whether the weights are a random initialisation"),
            _measured("corpus", "string", "name of the corpus"),
            _measured("corpus_sha256", "string", "digest of the corpus's texts, instances and labels"),
            _measured("site", "string", "what was read: activation (the down projection's input), gate, preactivation"),
            _measured("pooling", "string", "over an instance's tokens: max, mean, abs_max or last"),
            Column("router", "string", "routed or blind in a mixture of experts, NULL in a dense model", nullable=True),
            _measured("dtype", "string", "floating-point type of the weights and the forward pass"),
            _measured("storage", "string", "floating-point type in which pooled activations were kept for scoring"),
            _measured("max_tokens", "int32", "longest text in tokens; what lies beyond was cut"),
            Column("layers", "string", "the layers asked for, such as 0,3-5; NULL for all", nullable=True),
            _measured("n_texts", "int64", "texts run"),
            _measured("n_instances", "int64", "instances measured"),
            _measured("n_tokens", "int64", "tokens run, special tokens included"),
            _measured("n_truncated", "int64", "texts cut at max_tokens"),
            _measured("n_dropped", "int64", "instances without a token to pool (in the cut part, or none at all)"),
            Column("seed", "int64", "seed of the random initialisation, NULL for given weights", nullable=True),
            _measured("device", "string", "device of the forward pass"),
            Column("neuronlake_version", "string", "version of neuronlake"),
            _measured("torch_version", "string", "version of torch"),
            _measured("transformers_version", "string", "version of transformers"),
            Column("python_version", "string", "version of Python"),
            Column("source", "string", "name of the file imported, NULL if measured", nullable=True),
            Column("source_sha256", "string", "digest of that file, NULL if measured", nullable=True),
            Column(
                "request_id",
                "string",
                "digest of what was asked: files or commit of the checkpoint, corpus and settings; NULL if unknown",
                nullable=True,
                is_late=True,
            ),
            Column("started_at", "timestamp", "when the job started"),
            Column("duration_s", "float64", "wall time of the job, in seconds"),
        ),
    ),
    Table(
        "layers",
        ("run_id", "stack", "layer"),
        "one measured feed-forward layer of a run",
        (
            *RUN,
            *NEURON[:2],
            Column("n_neurons", "int32", "neurons in the layer, over all native experts"),
            Column(
                "n_native_experts", "int32", "experts of a mixture-of-experts layer, NULL when dense", nullable=True
            ),
            _measured("activation_function", "string", "name of the nonlinearity, as in the model's configuration"),
            _measured("is_gated", "bool", "whether the activation is act(gate) * up"),
            _measured("module_path", "string", "the down projection, or the bank of experts; several in neuron order"),
        ),
    ),
    Table(
        "run_functions",
        ("run_id", "family", "function"),
        "one function as a run measured it: the instances behind every score",
        (
            *RUN,
            *FUNCTION,
            Column("n_positive", "int64", "measured instances labelled positive"),
            Column("n_negative", "int64", "measured instances that count as negative"),
            Column("prevalence", "float64", "n_positive / (n_positive + n_negative): average precision at chance"),
            Column("n_positive_half_a", "int64", "positives in half a"),
            Column("n_negative_half_a", "int64", "negatives in half a"),
            Column("n_positive_half_b", "int64", "positives in half b"),
            Column("n_negative_half_b", "int64", "negatives in half b"),
        ),
    ),
    Table(
        "neurons",
        ("run_id", "stack", "layer", "neuron"),
        "one neuron of a run, its activation over the pooled instances and its weights",
        (
            *RUN,
            *NEURON,
            Column("native_expert", "int32", "routed expert the neuron belongs to; NULL: every token's", nullable=True),
            Column("mean", "float32", "mean pooled activation"),
            Column("std", "float32", "standard deviation of the pooled activation (population)"),
            Column("min", "float32", "smallest pooled activation"),
            Column("max", "float32", "largest pooled activation"),
            Column("firing_rate", "float32", "share of instances with an activation above 0"),
            Column(
                "n_routed", "int64", "instances with a token routed to the neuron's expert, NULL: all", nullable=True
            ),
            Column("input_norm", "float32", "L2 norm of the neuron's input weights (gate and up together when gated)"),
            Column("output_norm", "float32", "L2 norm of the neuron's output weights"),
        ),
    ),
    Table(
        "neuron_functions",
        ("run_id", "stack", "layer", "neuron", "family", "function"),
        "one neuron's scores as a detector of one function",
        (
            *RUN,
            *NEURON,
            *FUNCTION,
            Column("ap", "float32", "average precision for the function, ties included; the score as imported"),
            _measured("ap_complement", "float32", "average precision of the activation for the function's negatives"),
            _measured("auroc", "float32", "area under the ROC curve, ties counted half"),
            _measured("mean_positive", "float32", "mean activation over the positives"),
            _measured("mean_negative", "float32", "mean activation over the negatives"),
            Column("ap_half_a", "float32", "ap on half a; NULL if the half lacks a class", nullable=True),
            Column("ap_half_b", "float32", "ap on half b; NULL if the half lacks a class", nullable=True),
            Column("ap_complement_half_a", "float32", "ap_complement on half a; NULL likewise", nullable=True),
            Column("ap_complement_half_b", "float32", "ap_complement on half b; NULL likewise", nullable=True),
            _measured("p_value", "float32", "permutation p, both ways; takes instances as independent; at least 1e-6"),
        ),
    ),
    Table(
        "routing",
        ("run_id", "stack", "layer", "native_expert", "family", "function"),
        "how often the router chooses one native expert for the instances of one function",
        (
            *RUN,
            *NEURON[:2],
            Column("native_expert", "int32", "the routed expert"),
            *FUNCTION,
            Column("share_positive", "float32", "share of a positive's tokens sent to the expert, mean over positives"),
            Column("share_negative", "float32", "share of a negative's tokens sent to the expert, mean over negatives"),
            Column("ap", "float32", "average precision of the share as a detector of the function, ties included"),
            Column("ap_complement", "float32", "average precision of the share for the function's negatives"),
            Column("auroc", "float32", "area under the ROC curve, ties counted half"),
        ),
    ),
    Table(
        "top_instances",
        ("run_id", "stack", "layer", "neuron", "rank"),
        "the instances that activate a neuron most; those tied at its minimum are left out",
        (
            *RUN,
            *NEURON,
            Column("rank", "int16", "1 for the highest activation"),
            Column("corpus", "string", "name of the corpus"),
            Column("instance_id", "int64", "the instance, as in instances"),
            Column("value", "float32", "the pooled activation"),
        ),
    ),
    Table(
        "corpora",
        ("corpus",),
        "one labelled corpus",
        (
            Column("corpus", "string", "name of the corpus"),
            Column("corpus_sha256", "string", "digest of its texts, instances and labels"),
            Column("description", "string", "what it is"),
            Column("licence", "string", "its licence, NULL when unknown", nullable=True),
            Column("source", "string", "where it was read from: reader and file or folder name"),
            Column("n_texts", "int64", "distinct texts"),
            Column("n_instances", "int64", "instances: texts or spans of them"),
            Column("dropped", "string", "JSON object: what was left out or altered in reading, counted by reason"),
        ),
    ),
    Table(
        "texts",
        ("corpus", "text_id"),
        "one text, run once however many instances it has",
        (
            Column("corpus", "string", "name of the corpus"),
            Column("text_id", "int64", "index of the text, in the order read"),
            Column("text", "string", "the text"),
            Column("target", "string", "target text of sequence-to-sequence or choice data", nullable=True),
            Column("split_group", "string", "texts of one group share a half; NULL: the text alone", nullable=True),
            Column("half", "string", "a or b, by a hash of split_group, or of the text where that is NULL"),
        ),
    ),
    Table(
        "instances",
        ("corpus", "instance_id"),
        "what is labelled: a text, or a span of one",
        (
            Column("corpus", "string", "name of the corpus"),
            Column("instance_id", "int64", "index of the instance, in the order read"),
            Column("text_id", "int64", "the text"),
            Column("start_char", "int32", "first character of the span, NULL for the whole text", nullable=True),
            Column("end_char", "int32", "one past the last character of the span, NULL likewise", nullable=True),
            Column("source_id", "string", "the instance's id in the source", nullable=True),
        ),
    ),
    Table(
        "labels",
        ("corpus", "instance_id", "family", "function"),
        "one label of an instance; of a function with negatives = rest only the positives are kept",
        (
            Column("corpus", "string", "name of the corpus"),
            Column("instance_id", "int64", "the instance"),
            *FUNCTION,
            Column("is_positive", "bool", "whether the instance has the function"),
        ),
    ),
    Table(
        "functions",
        ("corpus", "family", "function"),
        "one function of a corpus",
        (
            Column("corpus", "string", "name of the corpus"),
            *FUNCTION,
            Column("n_positive", "int64", "instances labelled positive"),
            Column("n_negative", "int64", "instances that count as negative"),
            Column("prevalence", "float64", "n_positive / (n_positive + n_negative)"),
            Column("negatives", "string", "rest: unlabelled instances are negative; explicit: they are outside"),
            Column("description", "string", "what the function is", nullable=True),
        ),
    ),
    Table(
        "coactivations",
        ("run_id", "activity", "stack", "layer", "neuron", "partner"),
        "the neurons of a layer that are active on the same instances as one neuron: its closest partners",
        (
            *RUN,
            Column("activity", "string", "when a neuron counts as active: positive, or top-<share> of its instances"),
            *NEURON,
            Column("partner", "int32", "the other neuron, of the same layer"),
            Column("n_both", "int64", "instances on which both are active"),
            Column("n_active", "int64", "instances on which the neuron is active"),
            Column("n_active_partner", "int64", "instances on which the partner is active"),
        ),
    ),
    Table(
        "partitions",
        ("partition_id",),
        "one partition of a model's neurons into experts",
        (
            Column("partition_id", "string", "16 hex digits of the digest of all that defines the partition"),
            Column("model", "string", "hub id or folder name, as given"),
            Column("revision", "string", "revision the neurons belong to"),
            Column("step", "int64", "training step of the revision, NULL when unknown", nullable=True),
            Column(
                "method",
                "string",
                "kmeans, coactivation, function, random, matched (random among like neurons), native, imported",
            ),
            Column("n_experts", "int32", "experts in each layer, the most where layers differ"),
            Column("seed", "int64", "seed, NULL where the method has none", nullable=True),
            Column("parameters", "string", "JSON object of all other parameters"),
            Column("run_id", "string", "run whose scores or activations were used", nullable=True),
            Column(
                "half",
                "string",
                "instances whose scores were clustered: all, a, b; NULL: no scores",
                nullable=True,
                is_late=True,
            ),
            Column("source_query", "string", "the SQL whose rows were clustered", nullable=True),
            Column("objective_name", "string", "what the method makes small, NULL if nothing", nullable=True),
            Column("objective", "float64", "its value, mean over layers; NULL likewise", nullable=True),
            Column("neuronlake_version", "string", "version of neuronlake"),
            Column("duration_s", "float64", "wall time, in seconds"),
        ),
    ),
    Table(
        "partition_layers",
        ("partition_id", "stack", "layer"),
        "one layer of a partition: the sizes of its experts and how well they hold together",
        (
            Column("partition_id", "string", "the partition"),
            *NEURON[:2],
            Column("n_neurons", "int32", "neurons that are in an expert"),
            Column("n_experts", "int32", "experts"),
            Column("n_smallest", "int32", "neurons of the smallest expert"),
            Column("n_largest", "int32", "neurons of the largest expert"),
            Column(
                "objective", "float64", "what the method makes small, in this layer; NULL if nothing", nullable=True
            ),
            Column(
                "objective_random",
                "float64",
                "the same of a random partition of equal sizes; NULL likewise",
                nullable=True,
            ),
        ),
    ),
    Table(
        "experts",
        ("partition_id", "stack", "layer", "neuron"),
        "one neuron's place in a partition",
        (
            Column("partition_id", "string", "the partition"),
            *NEURON,
            Column("expert", "int32", "index of the expert within its layer"),
        ),
    ),
    Table(
        "alignments",
        ("alignment_id", "null_model", "half", "stack", "layer", "expert", "family", "function"),
        "whether an expert holds more top neurons of a function than when neurons are dealt to experts at random",
        (
            Column("alignment_id", "string", "16 hex digits of the digest of all that defines the test"),
            *RUN,
            Column("partition_id", "string", "the partition"),
            Column("null_model", "string", "free: any neuron of the layer; matched: of like norm and firing rate"),
            Column("half", "string", "instances the top neurons were chosen on: all, a or b"),
            *NEURON[:2],
            Column("expert", "int32", "index of the expert within its layer"),
            Column("family", "string", "function family"),
            Column("function", "string", "sub-function; * for the family: all its functions' top lists together"),
            Column("n_neurons", "int32", "neurons of the expert"),
            Column("n_top", "int32", "entries of the top lists that the expert holds"),
            Column("n_expected", "float64", "their mean when the neurons are dealt at random"),
            Column(
                "p_value",
                "float64",
                "exact chance of at least n_top; of a family the share of permutations, the observed one counted",
            ),
            Column("p_nominal", "float64", "hypergeometric tail; of a family the binomial of the pooled lists"),
            Column("n_permutations", "int64", "permutations behind p_value, NULL where it is exact", nullable=True),
            Column("seed", "int64", "seed of the permutations"),
        ),
    ),
    *PERTURBATION_TABLES,
    *EMERGENCE_TABLES,
)

TABLES: Mapping[str, Table] = MappingProxyType({each.name: each for each in _ALL})
"""All tables by name, in the order to read them."""


def table(name: str) -> Table:
    """Return the declaration of the table called `name`.

    Raises
    ------
    UnknownNameError
        If no such table is declared.
    """
    if name not in TABLES:
        raise UnknownNameError("table", name, TABLES)
    return TABLES[name]
