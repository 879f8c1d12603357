"""The kinds of perturbation: what each needs to be told, and what it refuses."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

from ...errors import AnalysisError, UnknownNameError
from ...schema.vocabulary import PerturbationKind

__all__ = ["LEVEL_COLUMNS", "check_kind"]

LEVEL_COLUMNS: Mapping[PerturbationKind, str] = MappingProxyType({"mean": "mean", "clamp": "value", "noise": "std"})
"""The column that says, of the kinds that need it, what each neuron is held at or how much it varies."""

_SCALED = ("noise", "shuffle")


def check_kind(kind: PerturbationKind, *, scale: float) -> None:
    """Refuse a kind that is not there, and a scale that it cannot have.

    Raises
    ------
    UnknownNameError
        If there is no such kind.
    AnalysisError
        If the scale is not a number of at least 0, or not 1 where the kind has none.
    """
    if kind not in get_args(PerturbationKind):
        raise UnknownNameError("kind of perturbation", kind, get_args(PerturbationKind))
    if not (math.isfinite(scale) and scale >= 0):
        raise AnalysisError(f"a perturbation of scale {scale} is not possible; scales are numbers of at least 0")
    if kind not in _SCALED and scale != 1:
        raise AnalysisError(f"the kind {kind} has no scale, {scale} was given; {' and '.join(_SCALED)} have one")
