"""Reading neurons while a model runs: hooks that pool each instance's tokens and keep nothing else."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import IngestError
from .sites import Site

__all__ = ["Pooling", "Spans", "capture"]

Pooling = Literal["max", "mean", "abs_max", "last"]

# Spans of up to so many tokens are gathered together, one indexing operation a length; longer ones are sliced
# one by one, without a copy.
_GATHER_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Spans:
    """Token spans of the instances of one batch, half open.

    Parameters
    ----------
    row, start, stop
        The instance's text within the batch, its first token and one past its last. [instances] each
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]


class Capture:
    """Pooled activations of the batch that runs; made by `capture`."""

    def __init__(self, sites: Sequence[Site], pooling: Pooling) -> None:
        self._sites = sites
        self._pooling = pooling
        self._plan: _Plan | None = None
        self._pooled: list[torch.Tensor | None] = []

    @contextlib.contextmanager
    def batch(self, spans: Spans, shape: tuple[int, int]) -> Iterator[None]:
        """Pool these spans in the forward pass that runs inside.

        Parameters
        ----------
        spans
            The instances.
        shape
            Texts and padded tokens of the batch.
        """
        self._plan = _Plan.make(spans, shape)
        self._pooled = [None] * len(self._sites)
        try:
            yield
        finally:
            self._plan = None

    def pooled(self) -> list[torch.Tensor]:
        """Return the pooled activations of the last batch, one tensor [instances, n_neurons] a site.

        Raises
        ------
        IngestError
            If a site did not run.
        """
        for site, pooled in zip(self._sites, self._pooled, strict=True):
            if pooled is None:
                raise IngestError(f"{site.module_path} did not run in the forward pass, so its neurons were not read")
        return [pooled for pooled in self._pooled if pooled is not None]

    def _read(self, index: int, hidden: torch.Tensor) -> None:
        site = self._sites[index]
        if self._plan is None:
            return
        if self._pooled[index] is not None:
            raise IngestError(f"{site.module_path} ran twice in one forward pass")
        n_rows, n_tokens = self._plan.shape
        # Some models flatten texts and tokens; none may put tokens before texts.
        if hidden.shape not in ((n_rows, n_tokens, site.n_neurons), (n_rows * n_tokens, site.n_neurons)):
            raise IngestError(
                f"{site.module_path} received {tuple(hidden.shape)}, not {n_rows} texts x {n_tokens} tokens x "
                f"{site.n_neurons} neurons"
            )
        self._pooled[index] = _pool(hidden.detach().reshape(-1, site.n_neurons), self._plan, self._pooling)


@contextlib.contextmanager
def capture(module: nn.Module, sites: Sequence[Site], *, pooling: Pooling) -> Iterator[Capture]:
    """Read `sites` whenever `module` runs inside; hooks only look, and are gone afterwards.

    Parameters
    ----------
    module
        The transformer body.
    sites
        Its layers to read.
    pooling
        Over an instance's tokens: the maximum, the mean, the maximum of absolute values, or the last token.

    Examples
    --------
    >>> with capture(module, sites, pooling="max") as reading:  # doctest: +SKIP
    ...     with reading.batch(spans, input_ids.shape):
    ...         module(input_ids)
    ...     activations = reading.pooled()
    """
    reading = Capture(sites, pooling)

    def hook(index: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
        def read(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            reading._read(index, inputs[0])

        return read

    handles = [
        module.get_submodule(site.module_path).register_forward_pre_hook(hook(index))
        for index, site in enumerate(sites)
    ]
    try:
        yield reading
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read a batch's spans from activations laid out as [texts * tokens, n_neurons]."""

    shape: tuple[int, int]
    n_instances: int
    gathered: tuple[tuple[torch.Tensor, torch.Tensor], ...]  # (instances [k], tokens [k, length])
    sliced: tuple[tuple[int, int, int], ...]  # (instance, first token, one past the last)

    @classmethod
    def make(cls, spans: Spans, shape: tuple[int, int]) -> "_Plan":
        row = torch.as_tensor(spans.row, dtype=torch.int64)
        first = row * shape[1] + torch.as_tensor(spans.start, dtype=torch.int64)
        length = torch.as_tensor(spans.stop, dtype=torch.int64) - torch.as_tensor(spans.start, dtype=torch.int64)
        gathered = []
        for size in range(1, _GATHER_TOKENS + 1):
            instances = torch.nonzero(length == size).flatten()
            if len(instances):
                gathered.append((instances, first[instances, None] + torch.arange(size)))
        long = torch.nonzero(length > _GATHER_TOKENS).flatten().tolist()
        sliced = [(index, int(first[index]), int(first[index] + length[index])) for index in long]
        return cls(shape, len(row), tuple(gathered), tuple(sliced))


def _pool(tokens: torch.Tensor, plan: _Plan, pooling: Pooling) -> torch.Tensor:
    """Pool token activations [texts * tokens, n_neurons] into [instances, n_neurons]."""
    pooled = tokens.new_empty((plan.n_instances, tokens.shape[1]))
    for instances, index in plan.gathered:
        pooled[instances.to(tokens.device)] = _reduce(tokens[index.to(tokens.device)], pooling)
    for instance, start, stop in plan.sliced:
        pooled[instance] = _reduce(tokens[None, start:stop], pooling)[0]
    return pooled


def _reduce(tokens: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool the middle axis of [instances, tokens, n_neurons]."""
    match pooling:
        case "max":
            return tokens.amax(1)
        case "mean":
            return tokens.mean(1, dtype=torch.float32).to(tokens.dtype)
        case "abs_max":
            return tokens.abs().amax(1)
        case "last":
            return tokens[:, -1]
