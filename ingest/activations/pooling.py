"""Pooling: the values at an instance's tokens become one value for each neuron."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...schema.vocabulary import Pooling
from ..models.devices import moved

# Longest span in tokens that is gathered with others of its length, in one operation; longer ones are sliced singly,
# without a copy.
_GATHER_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Spans:
    """Token spans of the instances of one batch, half open; their indices into values are made once for a device."""

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
        return self._once(("n_tokens", device), lambda: moved(self._lengths(), device))  # type: ignore[no-any-return]

    def layout(self, tokens_per_text: int, device: torch.device) -> "Slices | Segments":
        """Return where spans lie if each text takes `tokens_per_text` rows; models may pad further by themselves."""
        # A CPU is fastest on slices by far; a GPU would spend more on starting so many operations than on the model.
        make = self.slices if device.type in ("cpu", "mps") else self.segments  # Metal has no segment_reduce
        return self._once(("layout", tokens_per_text, device), lambda: make(tokens_per_text, device))  # type: ignore[no-any-return]

    def slices(self, tokens_per_text: int, device: torch.device) -> "Slices":
        """Return spans as slices of the values, short ones of one length together."""
        first, n_tokens, gathered = self._first(tokens_per_text), self._lengths(), []
        for size in range(1, _GATHER_TOKENS + 1):
            instances = torch.nonzero(n_tokens == size).flatten()
            if len(instances):
                tokens = first[instances, None] + torch.arange(size)
                gathered.append((instances.to(device), tokens.to(device)))
        long = torch.nonzero(n_tokens > _GATHER_TOKENS).flatten().tolist()
        stop = first + n_tokens
        return Slices(gathered, [(index, int(first[index]), int(stop[index])) for index in long])

    def segments(self, tokens_per_text: int, device: torch.device) -> "Segments":
        """Return spans as segments, of all tokens if none overlaps another, else of a copy of theirs."""
        first, n_tokens = self._first(tokens_per_text), self._lengths()
        stop, segment = first + n_tokens, torch.arange(self.n_instances)
        if bool((first[1:] >= stop[:-1]).all()):
            ends, copied = torch.stack([first, stop], 1).flatten(), None  # every other segment lies between two spans
            segment = 1 + 2 * segment
        else:
            ends, copied = n_tokens.cumsum(0), moved(_each_token(first, n_tokens), device)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends])
        return Segments(moved(offsets, device), moved(segment, device), moved(stop - 1, device), copied)

    def pairs(self, device: torch.device, *, is_last_only: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all pairs of an instance and a token of it, or its last token alone: instances and tokens [pairs]."""

        def make() -> tuple[torch.Tensor, torch.Tensor]:
            begin, n_tokens = self._first(self.shape[1]), self._lengths()
            if is_last_only:
                begin, n_tokens = begin + n_tokens - 1, torch.ones_like(n_tokens)
            instance = torch.repeat_interleave(torch.arange(self.n_instances), n_tokens)
            return moved(instance, device), moved(_each_token(begin, n_tokens), device)

        return self._once(("pairs", device, is_last_only), make)  # type: ignore[no-any-return]

    def owner(self, device: torch.device, *, is_last_only: bool) -> torch.Tensor | None:
        """Return the instance that each token lies in [tokens], their number for none; None if one lies in several."""

        def make() -> torch.Tensor | None:
            instance, token = self.pairs(torch.device("cpu"), is_last_only=is_last_only)
            owner = torch.full((self.shape[0] * self.shape[1],), self.n_instances)
            owner[token] = instance
            return moved(owner, device) if int((owner < self.n_instances).sum()) == len(token) else None

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
class Slices:
    """Spans as slices of the values of tokens."""

    # Short spans, those of one length together: instances [k] and their tokens [k, length]
    gathered: Sequence[tuple[torch.Tensor, torch.Tensor]]
    sliced: Sequence[tuple[int, int, int]]  # longer ones: the instance, its first token and one past its last

    def pool(self, tokens: torch.Tensor, n_instances: int, pooling: Pooling) -> torch.Tensor:
        """Pool the values of all tokens [texts * tokens, neurons] into [instances, neurons]."""
        pooled = tokens.new_empty((n_instances, tokens.shape[1]))
        for instances, index in self.gathered:
            pooled[instances] = _reduce(tokens[index], pooling)
        for instance, start, stop in self.sliced:
            pooled[instance] = _reduce(tokens[None, start:stop], pooling)[0]
        return pooled


@dataclass(frozen=True, slots=True)
class Segments:
    """Spans as segments of the values of tokens, for one reduction of them all."""

    offsets: torch.Tensor  # where segments begin, and the last one's end [segments + 1]
    segment: torch.Tensor  # the segment of each instance [instances]
    last: torch.Tensor  # its last token [instances]
    copied: torch.Tensor | None  # the tokens that segments are of, where spans overlap; None: all, in their order

    def pool(self, tokens: torch.Tensor, n_instances: int, pooling: Pooling) -> torch.Tensor:
        """Pool the values of all tokens [texts * tokens, neurons] into [instances, neurons]."""
        if pooling == "last":
            return tokens.index_select(0, self.last)
        values = tokens if self.copied is None else tokens.index_select(0, self.copied)
        if pooling != "max":
            values = values.float() if pooling == "mean" else values.abs()
        how = "mean" if pooling == "mean" else "max"
        # What is unsafe is to give wrong offsets; to have them checked would wait for the device.
        reduced = torch.segment_reduce(values, how, offsets=self.offsets, axis=0, unsafe=True)
        return reduced.index_select(0, self.segment).to(tokens.dtype)


def _each_token(first: torch.Tensor, n_tokens: torch.Tensor) -> torch.Tensor:
    """Return the tokens of spans, one after the other, given each one's first token and their number."""
    ends = n_tokens.cumsum(0)
    return torch.repeat_interleave(first - ends + n_tokens, n_tokens) + torch.arange(int(n_tokens.sum()))


def _reduce(tokens: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool the middle axis of [instances, tokens, neurons]."""
    if pooling == "mean":
        return tokens.mean(1, dtype=torch.float32).to(tokens.dtype)
    if pooling == "last":
        return tokens[:, -1]
    return (tokens.abs() if pooling == "abs_max" else tokens).amax(1)


class ExpertPool:
    """Pools the values of experts, a row for each token and expert it is sent to; to others it counts as 0."""

    def __init__(self, spans: Spans, n_experts: int, width: int, pooling: Pooling) -> None:
        self._spans = spans
        self._n_experts = n_experts
        # One row an instance and expert; what lies in no instance goes to rows of its own.
        self._n_rows = (spans.n_instances + 1) * n_experts
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
            least = float("-inf") if self._pooling == "max" else 0.0
            dtype = torch.float32 if self._pooling == "mean" else values.dtype
            self._reduced = values.new_full((self._n_rows, self._width), least, dtype=dtype)
        if row is not None:
            values = values.index_select(0, row)
        if self._pooling == "mean":
            self._reduced.index_add_(0, target, values.float())
        elif self._pooling == "last":
            self._reduced[target] = values
        else:
            values = values.abs() if self._pooling == "abs_max" else values
            self._reduced.scatter_reduce_(0, target[:, None].expand(-1, self._width), values, "amax")

    def send(self, token: torch.Tensor, expert: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Count tokens as sent to experts, without values; return what `_entries` does."""
        target, row = self._entries(token, expert, is_last_only=False)
        if self._n_sent is None:
            self._n_sent = torch.zeros(self._n_rows, device=token.device)
        self._n_sent.index_add_(0, target, torch.ones(len(target), device=token.device))
        return target, row

    def pooled(self) -> torch.Tensor | None:
        """Return the pooled values [instances, experts * width], None if no row was added."""
        if self._reduced is None:
            return None
        values = self._reduced.reshape(-1, self._n_experts, self._width)[:-1]
        n_tokens = self._spans.n_tokens(values.device)[:, None, None]
        if self._pooling == "mean":
            values = (values / n_tokens).to(self._dtype)
        elif self._pooling == "max":  # a token that was not sent counts as 0
            values = torch.where(self.n_sent()[..., None] < n_tokens, values.clamp_min(0), values)
        return values.flatten(1)

    def n_sent(self) -> torch.Tensor:
        """Return how many of each instance's tokens were sent to each expert, as float32 [instances, experts]."""
        n_sent = torch.zeros(self._n_rows) if self._n_sent is None else self._n_sent
        return n_sent.reshape(-1, self._n_experts)[:-1]

    def shares(self) -> torch.Tensor:
        """Return which share of each instance's tokens was sent to each expert, as float32 [instances, experts]."""
        n_sent = self.n_sent()
        return n_sent / self._spans.n_tokens(n_sent.device)[:, None]

    def _entries(
        self, token: torch.Tensor, expert: torch.Tensor, *, is_last_only: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return a place (instance * experts + expert) for each row and instance, and the rows; None: all in order."""
        owner = self._spans.owner(token.device, is_last_only=is_last_only)
        if owner is not None:
            return owner[token] * self._n_experts + expert, None
        instance, wanted = self._spans.pairs(token.device, is_last_only=is_last_only)
        order = torch.argsort(token)
        n_rows = torch.bincount(token, minlength=self._spans.shape[0] * self._spans.shape[1])
        first = n_rows.cumsum(0) - n_rows
        n_each = n_rows[wanted]
        pair = torch.repeat_interleave(torch.arange(len(wanted), device=token.device), n_each)
        offset = torch.arange(len(pair), device=token.device) - (n_each.cumsum(0) - n_each)[pair]
        row = order[first[wanted[pair]] + offset]
        return instance[pair] * self._n_experts + expert[row], row
