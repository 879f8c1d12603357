"""What defines a measurement, and what a job may use."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import get_args

from ...errors import IngestError, UnknownNameError
from ...schema.identity import identifier
from ...schema.vocabulary import DType, Pooling, Router, Site, Storage

__all__ = ["Coactivation", "Resources", "Settings", "checked"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What defines a measurement, beside the model and the corpus.

    Parameters
    ----------
    site
        What of a neuron is read: its activation, its gate, or what enters the nonlinearity.
    pooling
        How an instance's tokens become one activation.
    router
        In a mixture of experts, whether a token not sent to an expert leaves its neurons at 0 (``routed``) or all
        experts see all tokens (``blind``); without effect in a dense model.
    dtype
        Floating-point type of the weights and the forward pass.
    storage
        Type in which pooled activations are kept until they are scored.
    layers
        Layers to measure; None for all.
    max_tokens
        Longest text in tokens; the model's own limit where that is lower.
    n_top
        Top instances kept for each neuron.
    tokenizer
        Hub id or folder of the tokenizer to read texts with; the checkpoint's own if None. Not its name, but what it
        makes of the texts is part of what defines a measurement.
    """

    site: Site = "activation"
    pooling: Pooling = "max"
    router: Router = "routed"
    dtype: DType = "float32"
    storage: Storage = "float32"
    layers: tuple[int, ...] | None = None
    max_tokens: int = 512
    n_top: int = 10
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        """Check values; order and repetition of layers mean nothing."""
        _check_choice("site", self.site, get_args(Site))
        _check_choice("pooling", self.pooling, get_args(Pooling))
        _check_choice("router", self.router, get_args(Router))
        _check_choice("dtype", self.dtype, get_args(DType))
        _check_choice("storage", self.storage, get_args(Storage))
        _check_least("max_tokens", self.max_tokens, 1)
        _check_least("n_top", self.n_top, 0)
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job may use; results do not depend on it beyond rounding.

    Parameters
    ----------
    device
        Torch device; ``auto`` takes a GPU where there is one, ``split`` spreads the layers over all GPUs.
    batch_tokens
        Tokens in one batch, padding included; None for 4,096 on a CPU and 32,768 on a GPU.
    memory_bytes
        Most memory for activations, beside the model; they are kept on disk until they are scored.
    """

    device: str = "auto"
    batch_tokens: int | None = None
    memory_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        """Check values."""
        _check_least("memory_bytes", self.memory_bytes, 1)
        if self.batch_tokens is not None:
            _check_least("batch_tokens", self.batch_tokens, 1)


def checked(resources: Resources | None, label: str) -> Resources:
    """Return what a job may use, its defaults if nothing is said.

    Raises
    ------
    IngestError
        If the device is not there; `label` names the model.
    """
    resources = resources or Resources()
    if resources.device not in ("auto", "cpu"):  # these are on any machine: nothing need be imported to know
        from .measurement import on_device

        on_device(resources, label)
    return resources


@dataclass(frozen=True, slots=True)
class Coactivation:
    """What co-activation to measure.

    Parameters
    ----------
    n_partners
        Partners kept for each neuron, closest first.
    active_share
        Count a neuron as active on this share of the instances, those where its pooled activation is highest, rather
        than where it is positive (None). Of instances tied at the cut none counts, so that there may be fewer.

    Raises
    ------
    IngestError
        If a value is out of range.
    """

    n_partners: int = 32
    active_share: float | None = None

    def __post_init__(self) -> None:
        """Check values."""
        if self.n_partners < 1:
            raise IngestError(f"n_partners is {self.n_partners}; it must be at least 1")
        if self.active_share is not None and not 0 < self.active_share < 1:
            raise IngestError(f"active_share is {self.active_share}; it must be above 0 and below 1")

    @property
    def activity(self) -> str:
        """When a neuron counts as active, as the table names it: ``positive`` or ``top-<share>``."""
        return "positive" if self.active_share is None else f"top-{self.active_share}"

    def n_highest(self, n_instances: int) -> int | None:
        """Return on how many instances a neuron is active at most; None if where it is positive.

        Raises
        ------
        IngestError
            If the share of the instances is less than one of them.
        """
        if self.active_share is None:
            return None
        # As the share is written: 0.29 of 100 is 29, though the float is a little less.
        n_highest = math.floor(Fraction(str(self.active_share)) * n_instances)
        if n_highest < 1:
            raise IngestError(f"active_share is {self.active_share}, less than one of {n_instances:,} instances")
        return n_highest

    def job_name(self, run_id: str) -> str:
        """Return the name of the job that adds this to a run."""
        definition = {"run_id": run_id, "activity": self.activity, "n_partners": self.n_partners}
        return f"coactivation-{identifier(definition)}"


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UnknownNameError(name, value, choices)


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise IngestError(f"{name} is {value}; it must be at least {least}")
