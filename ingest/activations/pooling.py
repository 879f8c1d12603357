"""Pooling: the values at an instance's tokens become one value for each neuron."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...schema.vocabulary import Pooling

# Longest span in tokens that is gathered with others of its length, in one operation; longer ones are sliced singly,
# without a copy.
_GATHER_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Spans:
    """Token spans of the instances of one batch, half open.

    As indices into values [texts * tokens, neurons] they are made once for each device.
    """

    # The instance's text within the batch, its first token and one past its last [instances]
    row: NDArray[np.integer]
    start: NDArray[np.integer]
    stop: NDArray[np.integer]
    shape: tuple[int, int]  # texts and padded tokens of the batch
    _made: dict[tuple[object, ...], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def n_instances(self) -> int:
        """Number of instances."""
        return len(self.row)

    def n_tokens(self, device: torch.device) -> torch.Tensor:
        """Return the number of tokens of each instance [instances]."""
        return self._once(("n_tokens", device), lambda: self._lengths().to(device))  # type: ignore[no-any-return]

    def layout(self, tokens_per_text: int, device: torch.device) -> "Layout":
        """Return where spans lie if each text takes `tokens_per_text` rows; models may pad further by themselves."""

        def make() -> Layout:
            first, n_tokens, gathered = self._first(tokens_per_text), self._lengths(), []
            for size in range(1, _GATHER_TOKENS + 1):
                instances = torch.nonzero(n_tokens == size).flatten()
                if len(instances):
                    tokens = first[instances, None] + torch.arange(size)
                    gathered.append((instances.to(device), tokens.to(device)))
            long = torch.nonzero(n_tokens > _GATHER_TOKENS).flatten().tolist()
            stop = first + n_tokens
            return Layout(gathered, [(index, int(first[index]), int(stop[index])) for index in long])

        return self._once(("layout", tokens_per_text, device), make)  # type: ignore[no-any-return]

    def pairs(self, device: torch.device, *, is_last_only: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all pairs of an instance and a token of it, or its last token alone: instances and tokens [pairs]."""

        def make() -> tuple[torch.Tensor, torch.Tensor]:
            begin, n_tokens = self._first(self.shape[1]), self._lengths()
            if is_last_only:
                begin, n_tokens = begin + n_tokens - 1, torch.ones_like(n_tokens)
            instance = torch.repeat_interleave(torch.arange(self.n_instances), n_tokens)
            offset = torch.arange(len(instance)) - torch.repeat_interleave(n_tokens.cumsum(0) - n_tokens, n_tokens)
            return instance.to(device), (begin[instance] + offset).to(device)

        return self._once(("pairs", device, is_last_only), make)  # type: ignore[no-any-return]

    def owner(self, device: torch.device, *, is_last_only: bool) -> torch.Tensor | None:
        """Return the instance that each token lies in [tokens], -1 for none; None if a token lies in several."""

        def make() -> torch.Tensor | None:
            instance, token = self.pairs(device, is_last_only=is_last_only)
            owner = torch.full((self.shape[0] * self.shape[1],), -1, device=device)
            owner[token] = instance
            return owner if int((owner >= 0).sum()) == len(token) else None

        return self._once(("owner", device, is_last_only), make)  # type: ignore[no-any-return]

    def _first(self, tokens_per_text: int) -> torch.Tensor:
        return torch.as_tensor(self.row * tokens_per_text + self.start, dtype=torch.int64)

    def _lengths(self) -> torch.Tensor:
        return torch.as_tensor(self.stop - self.start, dtype=torch.int64)

    def _once(self, key: tuple[object, ...], make: Callable[[], Any]) -> Any:  # noqa: ANN401
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@dataclass(frozen=True, slots=True)
class Layout:
    """Spans as indices."""

    # Short spans, those of one length together: instances [k] and their tokens [k, length]
    gathered: Sequence[tuple[torch.Tensor, torch.Tensor]]
    sliced: Sequence[tuple[int, int, int]]  # longer ones: the instance, its first token and one past its last


def pool(tokens: torch.Tensor, layout: Layout, n_instances: int, pooling: Pooling) -> torch.Tensor:
    """Pool the values of all tokens [texts * tokens, neurons] into [instances, neurons]."""
    pooled = tokens.new_empty((n_instances, tokens.shape[1]))
    for instances, index in layout.gathered:
        pooled[instances] = _reduce(tokens[index], pooling)
    for instance, start, stop in layout.sliced:
        pooled[instance] = _reduce(tokens[None, start:stop], pooling)[0]
    return pooled


def _reduce(tokens: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool the middle axis of [instances, tokens, neurons]."""
    match pooling:
        case "max":
            return tokens.amax(1)
        case "mean":
            return tokens.mean(1, dtype=torch.float32).to(tokens.dtype)
        case "abs_max":
            return tokens.abs().amax(1)
        case "last":
            return tokens[:, -1]


class ExpertPool:
    """Pools the values of `n_experts` experts of `width` neurons: one row for each token and expert it is sent to.

    Where a token is not sent to an expert, the expert's neurons count as 0.
    """

    def __init__(self, spans: Spans, n_experts: int, width: int, pooling: Pooling) -> None:
        self._spans = spans
        self._n_experts = n_experts
        self._width = width
        self._pooling = pooling
        self._reduced: torch.Tensor | None = None
        self._dtype = torch.float32
        self._n_sent: torch.Tensor | None = None

    def add(self, values: torch.Tensor, token: torch.Tensor, expert: torch.Tensor) -> None:
        """Pool values [rows, width], given each row's token and expert [rows]; no two rows share both."""
        target, row = self.send(token, expert)
        if self._pooling == "last":
            target, row = self._entries(token, expert, is_last_only=True)
        if self._reduced is None:
            self._dtype = values.dtype
            self._reduced = torch.full(
                (self._spans.n_instances * self._n_experts, self._width),
                float("-inf") if self._pooling == "max" else 0.0,
                dtype=torch.float32 if self._pooling == "mean" else values.dtype,
                device=values.device,
            )
        if row is not None:
            values = values.index_select(0, row)
        match self._pooling:
            case "mean":
                self._reduced.index_add_(0, target, values.float())
            case "last":
                self._reduced[target] = values
            case "max" | "abs_max":
                values = values.abs() if self._pooling == "abs_max" else values
                self._reduced.scatter_reduce_(0, target[:, None].expand(-1, self._width), values, "amax")

    def send(self, token: torch.Tensor, expert: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Count tokens as sent to experts, without values; return what `_entries` does."""
        target, row = self._entries(token, expert, is_last_only=False)
        if self._n_sent is None:
            self._n_sent = torch.zeros(self._spans.n_instances * self._n_experts, device=token.device)
        self._n_sent.index_add_(0, target, torch.ones(len(target), device=token.device))
        return target, row

    def pooled(self) -> torch.Tensor | None:
        """Return the pooled values [instances, experts * width], None if no row was added."""
        if self._reduced is None:
            return None
        values = self._reduced.reshape(self._spans.n_instances, self._n_experts, self._width)
        n_tokens = self._spans.n_tokens(values.device)[:, None, None]
        if self._pooling == "mean":
            values = (values / n_tokens).to(self._dtype)
        elif self._pooling == "max":  # a token that was not sent counts as 0
            values = torch.where(self.n_sent()[..., None] < n_tokens, values.clamp_min(0), values)
        return values.flatten(1)

    def n_sent(self) -> torch.Tensor:
        """Return how many of each instance's tokens were sent to each expert, as float32 [instances, experts]."""
        if self._n_sent is None:
            return torch.zeros(self._spans.n_instances, self._n_experts)
        return self._n_sent.reshape(self._spans.n_instances, self._n_experts)

    def shares(self) -> torch.Tensor:
        """Return which share of each instance's tokens was sent to each expert, as float32 [instances, experts]."""
        n_sent = self.n_sent()
        return n_sent / self._spans.n_tokens(n_sent.device)[:, None]

    def _entries(
        self, token: torch.Tensor, expert: torch.Tensor, *, is_last_only: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return a place (instance * experts + expert) for each row and each instance its token lies in, and the row.

        The rows are None where they are all rows, each once and in order.
        """
        owner = self._spans.owner(token.device, is_last_only=is_last_only)
        if owner is not None:
            instance = owner[token]
            row = torch.nonzero(instance >= 0).flatten()
            if len(row) == len(token):
                return instance * self._n_experts + expert, None
            return instance[row] * self._n_experts + expert[row], row
        instance, wanted = self._spans.pairs(token.device, is_last_only=is_last_only)
        order = torch.argsort(token)
        n_rows = torch.bincount(token, minlength=self._spans.shape[0] * self._spans.shape[1])
        first = n_rows.cumsum(0) - n_rows
        n_each = n_rows[wanted]
        pair = torch.repeat_interleave(torch.arange(len(wanted), device=token.device), n_each)
        offset = torch.arange(len(pair), device=token.device) - (n_each.cumsum(0) - n_each)[pair]
        row = order[first[wanted[pair]] + offset]
        return instance[pair] * self._n_experts + expert[row], row
