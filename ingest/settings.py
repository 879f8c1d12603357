"""What defines a measurement, and what a job may use."""

from dataclasses import dataclass
from typing import get_args

from ..errors import IngestError, UnknownNameError
from .models import DType
from .pooling import Pooling
from .sites import Router, Site
from .spool import Storage

__all__ = ["Resources", "Settings"]


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
        Most memory for activations, beside the model; what is more goes to disk until it is scored.
    """

    device: str = "auto"
    batch_tokens: int | None = None
    memory_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        """Check values."""
        _check_least("memory_bytes", self.memory_bytes, 1)
        if self.batch_tokens is not None:
            _check_least("batch_tokens", self.batch_tokens, 1)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UnknownNameError(name, value, choices)


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise IngestError(f"{name} is {value}; it must be at least {least}")
