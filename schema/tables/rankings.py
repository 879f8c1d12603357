"""The tables of what comes first: each neuron's best functions, each function's top neurons, and those of controls.

They follow from scores, and spare a question from reading all of them; of control functions they are all that is kept.
"""

from .declaration import FUNCTION, NEURON, RUN, Column, Table, measured

_CONTROL = (
    Column(
        "control",
        "string",
        "what kept its labels together when they were permuted: instance, text, group, word; "
        "word-in-stratum: word, and labels stay in their stratum, such as a part of speech",
    ),
    Column("draw", "int32", "number of the permutation, from 0, and its seed"),
)
_CONTROL_KEYS = ("run_id", "control", "draw")

_BEST_KEYS = ("stack", "layer", "neuron", "family")
_BEST = (
    *NEURON,
    FUNCTION[0],
    Column("function", "string", "the family's function with the best evidence: least p, then highest lift"),
    Column("n_functions", "int32", "functions of the family, of which it is the best"),
    Column("ap", "float32", "its average precision"),
    measured("ap_complement", "float32", "its average precision for the function's negatives"),
    measured("p_value", "float32", "its p value, as in neuron_functions: of one function, not of the best of many"),
    Column(
        "lift_error", "float32", "half the distance of its lifts on the halves; NULL if one lacks it", nullable=True
    ),
    Column("second_function", "string", "the function that comes next; NULL if there is one", nullable=True),
    Column("second_ap", "float32", "average precision of that function; NULL likewise", nullable=True),
    measured("second_ap_complement", "float32", "its average precision for the negatives, NULL likewise"),
    Column(
        "held_out_function",
        "string",
        "the function with the best evidence on half a alone; NULL if the half lacks a class of each",
        nullable=True,
    ),
    Column("held_out_evidence", "float32", "its deviations above chance on half a; NULL likewise", nullable=True),
    Column("held_out_lift", "float32", "its lift on half b, in the direction of half a; NULL likewise", nullable=True),
)

_TOP_KEYS = ("stack", "layer", "family", "function", "ranked_by", "half", "rank")
_TOP = (
    *NEURON[:2],
    *FUNCTION,
    Column("ranked_by", "string", "what orders neurons: lift (predictivity where that is unknown), or predictivity"),
    Column("half", "string", "instances they are ordered on: all, a or b"),
    Column("rank", "int32", "1 for the first; as many as 1% of the layer's neurons, ties going to the lower index"),
    NEURON[2],
    Column("ap", "float32", "average precision of the neuron, on all instances"),
    measured("ap_complement", "float32", "average precision for the function's negatives, on all instances"),
)

TABLES = (
    Table.of(
        "neuron_best",
        ("run_id", *_BEST_KEYS),
        "the function of a family that one neuron is the best evidence of",
        *RUN,
        *_BEST,
    ),
    Table.of(
        "function_top_neurons",
        ("run_id", *_TOP_KEYS),
        "one of the neurons of a layer that rank highest for a function",
        *RUN,
        *_TOP,
    ),
    Table.of(
        "control_functions",
        (*_CONTROL_KEYS, *(column.name for column in FUNCTION)),
        "one function of a run with its labels permuted, so that neurons detect it by chance alone",
        *RUN,
        *_CONTROL,
        *FUNCTION,
        Column("n_positive", "int64", "measured instances labelled positive, as many as in the run"),
        Column("n_negative", "int64", "measured instances that count as negative, as many as in the run"),
        Column("n_kept", "int64", "instances that kept a label of their own text, group or word, for want of others"),
    ),
    Table.of(
        "control_best",
        (*_CONTROL_KEYS, *_BEST_KEYS),
        "the function of a family that one neuron is the best evidence of, when labels are permuted",
        *RUN,
        *_CONTROL,
        *_BEST,
    ),
    Table.of(
        "control_top_neurons",
        (*_CONTROL_KEYS, *_TOP_KEYS),
        "one of the neurons of a layer that rank highest for a function, when labels are permuted",
        *RUN,
        *_CONTROL,
        *_TOP,
    ),
)
