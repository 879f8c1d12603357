"""Every closed choice of settings, named once; the classes and functions that take them say what the others mean.

Nothing here imports torch or transformers.
"""

from typing import Literal

JobKind = Literal[
    "corpus", "run", "best", "controls", "coactivation", "highlights", "vocabulary", "checkpoints", "partition",
    "alignment", "perturbation", "stability", "emergence", "merge",
]  # fmt: skip
"""What a job makes, as its commit says."""

Addition = Literal["highlights", "vocabulary"]

Site = Literal["activation", "gate", "preactivation"]
"""What of a neuron is read. ``activation``: the input of the down projection. ``preactivation``: the input of the
nonlinearity, in a gated network that of the gate. ``gate``: the output of the nonlinearity of a gated network."""

# Of `Settings`.
Pooling = Literal["max", "mean", "abs_max", "last"]
SpecialTokens = Literal["drop", "keep"]
Halves = Literal["text", "word"]
Router = Literal["routed", "blind"]
DType = Literal["float32", "bfloat16", "float16"]
Storage = Literal["float32", "float16"]

WeightKind = Literal["input", "gate", "up", "output"]
"""Weights of a neuron. ``input``: those into it, in a gated network gate and up side by side. ``gate``, ``up``: one of
these two. ``output``: those out of it."""

Method = Literal["kmeans", "coactivation", "function", "random", "native"]
"""How neurons are grouped into experts. ``kmeans``: similar weights, or similar rows of a query. ``coactivation``:
active on the same instances. ``function``: similar scores. ``random``: a baseline. ``native``: the model's own."""

Half = Literal["all", "a", "b"]
"""The instances whose scores are used: all, or one half, so that the other half can test the result."""

Ranking = Literal["lift", "predictivity"]
"""What neurons are ordered by, for a function. ``lift``: the rise above chance in the better direction, or predictivity
where the prevalence is unknown. ``predictivity``: the better of the two average precisions, as in Zhang et al. 2023."""

EmergenceMethod = Literal["kmeans", "function", "coactivation", "native"]
"""How experts are made at each checkpoint, as in `Method`. Native experts are the same neurons at all checkpoints."""

ActivationKind = Literal["shuffle", "noise", "zero", "mean", "clamp"]
"""Kinds of perturbation that replace activations."""

RoutingKind = Literal["route-away", "route-only"]
"""Kinds of perturbation that restrict the router: it may not choose some experts, or may choose them alone."""

PerturbationKind = Literal[ActivationKind, RoutingKind]
"""All kinds of perturbation."""

ReadoutKind = Literal["probe", "loss", "choice"]
"""How a function is read out. ``probe``: accuracy of a logistic regression on final states. ``loss``: the language
model's loss. ``choice``: accuracy of the choice between label words."""

Selection = Literal["functional", "top", "query"]
"""Which neurons are perturbed. ``functional``: those of the function's functional experts first. ``top``: its top
neurons. ``query``: the rows of SQL."""

Control = Literal["random", "matched", "nonfunctional"]
"""Neurons perturbed for comparison. ``random``: any of the layers. ``matched``: of the same layers, of similar energy.
``nonfunctional``: of experts that are functional for no function."""

SemcorLabels = Literal["supersenses", "word-senses"]

ShuffleUnit = Literal["instance", "text", "group", "word"]
"""What keeps its labels together when labels are permuted: nothing, or the instances of a text, group or word."""

ControlTask = Literal["instance", "text", "group", "word", "word-in-stratum"]
"""What keeps its labels together when the labels of a run are permuted in the same pass, as in `ShuffleUnit`.
``word-in-stratum``: a word, whose labels stay in their stratum."""

Format = Literal["table", "csv", "json", "parquet"]
"""How rows are written."""
