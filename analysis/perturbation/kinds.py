"""The ways to perturb neurons: what each kind puts in place of their activations."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

import torch

from ...errors import AnalysisError, UnknownNameError

__all__ = ["LEVEL_COLUMNS", "ActivationKind", "PerturbationKind", "Perturber", "check_kind"]

ActivationKind = Literal["zero", "mean", "clamp", "noise", "shuffle"]
"""Kinds that put something else in place of activations."""

PerturbationKind = Literal[ActivationKind, "route-away"]
"""All kinds; ``route-away`` keeps a router from choosing experts."""

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


class Perturber:
    """One kind of perturbation, and the draws it goes on with from batch to batch.

    Parameters
    ----------
    kind
        What is done.
    scale
        Factor of the noise, or of the shuffled activations; 1 for the other kinds.
    seed
        Of draws: each device has a generator of its own, so that the caller's random state stays as it is.
    """

    def __init__(self, kind: ActivationKind, *, scale: float, seed: int) -> None:
        self._kind = kind
        self._scale = scale
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def perturb(self, values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Return what selected neurons go on with.

        Parameters
        ----------
        values
            Their activations. [..., neurons]
        levels
            What `LEVEL_COLUMNS` says of them, 0 where the kind needs nothing, in float32. [neurons]
        """
        match self._kind:
            case "zero" | "mean" | "clamp":
                return levels.to(values.dtype).expand_as(values)
            case "noise":
                drawn = torch.randn(values.shape, generator=self._generator(values.device), device=values.device)
                return (values + self._scale * levels * drawn).to(values.dtype)
            case "shuffle":
                order = torch.randperm(values.numel(), generator=self._generator(values.device), device=values.device)
                return values.reshape(-1)[order].reshape(values.shape) * self._scale

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]
