"""Every closed choice of what is measured and made, named once; nothing here imports a model's libraries."""

from typing import Literal

__all__ = [
    "ActivationKind",
    "Control",
    "DType",
    "EmergenceMethod",
    "Format",
    "Half",
    "Method",
    "PerturbationKind",
    "Pooling",
    "ReadoutKind",
    "Router",
    "Selection",
    "Site",
    "Storage",
    "WeightKind",
]

Site = Literal["activation", "gate", "preactivation"]
"""``activation``: what enters the down projection. ``preactivation``: what enters the nonlinearity, in a gated network
that of the gate. ``gate``: what leaves the nonlinearity of a gated network."""

Pooling = Literal["max", "mean", "abs_max", "last"]
"""How the activations of an instance's tokens become one."""

Router = Literal["routed", "blind"]
"""``routed``: a token that is not sent to an expert leaves its neurons at 0, as the network computes. ``blind``: every
expert on every token."""

DType = Literal["float32", "bfloat16", "float16"]
"""Floating-point type of weights and forward pass."""

Storage = Literal["float32", "float16"]
"""Floating-point type of pooled activations until they are scored."""

WeightKind = Literal["input", "gate", "up", "output"]
"""``input``: what leads to a neuron, in a gated network gate and up side by side. ``gate``, ``up``: one of these two.
``output``: what leads from it."""

Method = Literal["kmeans", "coactivation", "function", "random", "native"]
"""``kmeans``: neurons of like weights, or of like rows of a query. ``coactivation``: neurons that are active together.
``function``: neurons of like scores. ``random``: a baseline. ``native``: the model's own experts."""

Half = Literal["all", "a", "b"]
"""The instances whose scores are used: all, or one half, so that the other can test what was found."""

EmergenceMethod = Literal["kmeans", "function", "coactivation", "native"]
"""How experts are made at each checkpoint: as methods of partitions. Native experts are the same neurons throughout."""

ActivationKind = Literal["shuffle", "noise", "zero", "mean", "clamp"]
"""Kinds of perturbation that put something else in place of activations."""

PerturbationKind = Literal[ActivationKind, "route-away"]
"""All kinds of perturbation; ``route-away`` keeps a router from choosing experts."""

ReadoutKind = Literal["probe", "loss", "choice"]
"""``probe``: logistic regression on final states; ``loss``: of the language model; ``choice``: of label words."""

Selection = Literal["functional", "top", "query"]
"""``functional``: a function's functional experts first. ``top``: its top neurons. ``query``: the rows of SQL."""

Control = Literal["random", "matched", "nonfunctional"]
"""``random``: any neurons of the layers. ``matched``: neurons of the same layers and of like energy. ``nonfunctional``:
neurons of experts that are functional for no function."""

Format = Literal["table", "csv", "json", "parquet"]
"""How rows are written."""
