"""Reading neurons while a model runs: each instance's tokens are pooled, and nothing else is kept."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from ...errors import IngestError
from ...schema.vocabulary import Pooling, Router, Site
from ..neurons.feed_forwards import FeedForward, Layer, Place, Stack
from ..neurons.hooks import NeuronValues, every_expert, experts_input, hooked
from .pooling import ExpertPool, Spans

# Experts that are pooled together when all run on every token: one alone is too small a computation to be fast.
_EXPERTS_TOGETHER = 16


class _AllRead(BaseException):
    """Ends a forward pass of which all has been read; no error, so that no model takes it for one of its own."""


@dataclass(slots=True, eq=False)
class Capture:
    """Pooled values of the batch that runs; made by `capture`."""

    layers: Sequence[Layer]
    site: Site
    pooling: Pooling
    router: Router
    ends_early: bool
    _spans: dict[Place, Spans] = field(default_factory=dict, init=False)  # of each network's stack, within a batch
    _pooled: dict[Place, torch.Tensor] = field(default_factory=dict, init=False)
    _experts: dict[Place, ExpertPool] = field(default_factory=dict, init=False)
    _unread: set[Place] = field(default_factory=set, init=False)
    _has_run: bool = field(default=False, init=False)

    @contextlib.contextmanager
    def batch(self, spans: Mapping[Stack, Spans]) -> Iterator[None]:
        """Pool the instances of a batch in the forward pass that runs inside; `spans` are theirs in each stack."""
        self._spans = {network.down: spans[layer.stack] for layer in self.layers for network in layer.feed_forwards}
        self._pooled, self._experts, self._unread = {}, {}, set(self._spans)
        try:
            with contextlib.suppress(_AllRead):
                yield
        finally:
            self._spans = {}
        self._has_run = True

    def pooled(self) -> list[torch.Tensor]:
        """Return the pooled values of the last batch, [instances, neurons] a layer; all networks must have run."""
        layers = [[self._pooled_of(network) for network in layer.feed_forwards] for layer in self.layers]
        return [networks[0] if len(networks) == 1 else torch.cat(networks, 1) for networks in layers]

    def routed(self) -> list[torch.Tensor]:
        """Return which share of tokens went to each expert: one tensor [instances, experts] a layer with experts."""
        return [self._experts[layer.experts.down].shares() for layer in self.layers if layer.experts is not None]

    def visit(self, network: FeedForward, seen: NeuronValues) -> None:
        """Pool the values of a network that runs."""
        if not self._spans:
            return
        values = seen.values.detach()
        if seen.token is None or seen.expert is None:
            self._refuse_second_run(network)
            self._pooled[network.down] = self._pool_tokens(network, values)
            self._note_read(network)
        elif self.router == "routed":
            self._experts[network.down].add(values, seen.token, seen.expert)
        else:
            self._experts[network.down].send(seen.token, seen.expert)

    def enter_experts(self, network: FeedForward, _: nn.Module, *inputs: Any) -> None:  # noqa: ANN401
        """Begin to pool experts that are about to run: a hook before it."""
        if not self._spans:
            return
        self._refuse_second_run(network)
        spans, n_entered = self._spans[network.down], len(experts_input(*inputs))
        n_texts, n_tokens = spans.shape
        if n_entered != n_texts * n_tokens:
            raise IngestError(f"{network.path} received {n_entered} tokens, not {n_texts} texts x {n_tokens} tokens")
        self._experts[network.down] = ExpertPool(spans, network.n_experts or 0, network.width, self.pooling)

    def leave_experts(self, module: nn.Module, network: FeedForward, _: nn.Module, *inputs: Any) -> None:  # noqa: ANN401
        """End experts that ran, a hook behind it; with a blind router, run every expert on every token for that."""
        if not self._spans:
            return
        if self.router == "blind":
            hidden, spans = experts_input(*inputs[:2]), self._spans[network.down]
            layout = spans.layout(spans.shape[1], hidden.device)
            experts = every_expert(module, network, self.site, hidden)
            pooled = []
            while some := list(itertools.islice(experts, _EXPERTS_TOGETHER)):
                pooled.append(layout.pool(torch.cat(some, 1), spans.n_instances, self.pooling))
            self._pooled[network.down] = torch.cat(pooled, 1)
        self._note_read(network)

    def _refuse_second_run(self, network: FeedForward) -> None:
        if network.down not in self._unread:
            raise IngestError(f"{network.path} ran twice in one forward pass")

    def _note_read(self, network: FeedForward) -> None:
        self._unread.discard(network.down)
        # The first pass runs to its end, so that a network which runs more often than it should is refused.
        if self.ends_early and self._has_run and not self._unread:
            raise _AllRead

    def _pool_tokens(self, network: FeedForward, values: torch.Tensor) -> torch.Tensor:
        values = values.transpose(0, 1) if network.is_time_first else values
        spans, width = self._spans[network.down], network.width
        n_texts, n_tokens = spans.shape
        per_text = n_tokens
        if values.ndim == 3 and network.pads_to and values.shape[1] % network.pads_to == 0:
            # The model lengthened the texts at their ends by itself.
            per_text = -(-n_tokens // network.pads_to) * network.pads_to
        # Some models flatten texts and tokens.
        if values.shape not in ((n_texts, per_text, width), (n_texts * n_tokens, width)):
            problem = f"{network.path} received {tuple(values.shape)}"
            raise IngestError(f"{problem}, not {n_texts} texts x {n_tokens} tokens x {width} neurons")
        layout = spans.layout(per_text, values.device)
        return layout.pool(values.reshape(-1, width), spans.n_instances, self.pooling)

    def _pooled_of(self, network: FeedForward) -> torch.Tensor:
        pooled = self._pooled.get(network.down)
        if self.router == "routed" and network.down in self._experts:
            pooled = self._experts[network.down].pooled()
        if pooled is None:
            raise IngestError(f"{network.path} did not run in the forward pass, so its neurons were not read")
        return pooled


@contextlib.contextmanager
def capture(
    module: nn.Module,
    layers: Sequence[Layer],
    *,
    site: Site = "activation",
    pooling: Pooling = "max",
    router: Router = "routed",
    ends_early: bool = False,
) -> Iterator[Capture]:
    """Read `layers` whenever `module` runs inside; what it computes stays the same to the bit.

    If `ends_early`, all passes but the first end as soon as all layers are read: the module returns nothing.
    """
    reading = Capture(layers, site, pooling, router, ends_early)
    networks = [network for layer in layers for network in layer.feed_forwards if network.n_experts is not None]
    mixtures = [(network, module.get_submodule(network.path)) for network in networks]
    with contextlib.ExitStack() as undo:
        for network, experts in mixtures:
            enter = partial(reading.enter_experts, network)
            undo.enter_context(experts.register_forward_pre_hook(enter, with_kwargs=True))
        undo.enter_context(hooked(module, layers, reading.visit, site=site))
        # After the hooks above, which then do not take experts that are run blindly for the router's choice.
        for network, experts in mixtures:
            leave = partial(reading.leave_experts, module, network)
            undo.enter_context(experts.register_forward_hook(leave, with_kwargs=True))
        yield reading
