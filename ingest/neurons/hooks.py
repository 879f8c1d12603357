"""Reading and writing neurons while a model runs; capture and perturbation both use `hooked`.

Fused experts run through transformers' experts interface. Their own forward stays in place; what is replaced is the
function between their projections, which the interface calls with the rows of all experts. Which row is which token's
follows from the implementation of the interface, and is checked against the weights when experts first run.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...errors import IngestError
from ...schema.vocabulary import Site
from .experts import FusedExperts
from .feed_forwards import FeedForward, Layer, Place

_CHECKED_ROWS = 4  # rows that are recomputed to check which token they are of
_HOOK = "_neuronlake_hook"  # the attribute in which a module of experts keeps its hook while it has visitors


@dataclass(frozen=True, slots=True)
class NeuronValues:
    """Values of one network's neurons for some tokens, as the model computes them."""

    # For a dense network as the model lays them out, [texts, tokens, neurons] or [texts * tokens, neurons]. For experts
    # one row for each token and expert it is sent to. [rows, neurons of an expert]
    values: torch.Tensor
    # The token of each row, counted over the batch one text after the other; None for a dense network [rows]
    token: torch.Tensor | None = None
    expert: torch.Tensor | None = None  # the expert of each row; None for a dense network [rows]


# Given a network and its values, returns the values to go on with, or None to leave them as they are.
Visitor = Callable[[FeedForward, NeuronValues], torch.Tensor | None]


@contextmanager
def hooked(module: nn.Module, layers: Sequence[Layer], visit: Visitor, *, site: Site = "activation") -> Iterator[None]:
    """Call `visit` with the neurons of `layers` whenever `module`, to which their paths are relative, runs inside.

    `visit` is called with a network and its values, in the order in which the model computes them; where experts are
    modules, once per expert. The model goes on with what it returns, of the same shape and type. If it returns None,
    the model computes the same bits as without the hook. The gate of fused experts can be read, not written. Contexts
    may be nested: the inner is given the values that the outer returned.
    """
    networks = [network for layer in layers for network in layer.feed_forwards]
    for network in networks:
        check_site(network, site)
        if site == "gate" and network.is_fused:
            FusedExperts(module.get_submodule(network.path)).check_gate(network.width)
    calls: Counter[Place] = Counter()  # of the modules, in this forward pass

    def visit_call(network: FeedForward, place: Place, values: torch.Tensor) -> torch.Tensor | None:
        call = calls[place]
        calls[place] += 1
        if call >= place.n_calls:
            raise IngestError(f"{place.path} ran {call + 1} times in one forward pass, {place.n_calls} expected")
        return visit(network, NeuronValues(values)) if call == place.call else None

    with ExitStack() as undo:
        undo.enter_context(module.register_forward_pre_hook(lambda *_: calls.clear()))
        for network in networks:
            if network.members:
                _hook_members(module, network, site, visit, undo)
            elif network.is_fused:
                experts = module.get_submodule(network.path)
                hook: _FusedHook = experts.__dict__.get(_HOOK) or _FusedHook(experts, network)
                hook.visitors.append((site, visit))
                undo.callback(hook.remove, site, visit)
            else:
                # For the network's own call alone: layers may share the module that it runs.
                own = partial(visit_call, network, _site_place(network, site))
                undo.enter_context(_hook_dense(module, network, site, own))
        yield


def check_site(network: FeedForward, site: Site) -> None:
    """Raise `IngestError` if a network has no such site."""
    if site == "gate" and not network.is_gated:
        problem = f"{network.path} is not gated, so it has no site gate"
        raise IngestError(f"{problem}; its activation is the nonlinearity's output already")
    shown = network.members[0] if network.members else network
    if site != "activation" and network.is_gated and shown.nonlinearity is None and not network.is_fused:
        problem = f"{network.path} applies its nonlinearity by a function"
        raise IngestError(f"{problem}, not a module, so that only the site activation can be read, not {site}")


def experts_input(arguments: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    """Return the hidden states [tokens, hidden size] that enter a module of experts, from its forward's arguments."""
    hidden: torch.Tensor = (*arguments, *named.values())[0]
    return hidden.reshape(-1, hidden.shape[-1])


def every_expert(module: nn.Module, network: FeedForward, site: Site, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
    """Run every expert on all tokens [tokens, hidden size], whatever the router chose; yield each one's values."""
    for member in network.members:
        shown: list[torch.Tensor] = []
        with _hook_dense(module, member, site, shown.append):
            module.get_submodule(member.path.rpartition(".")[0])(hidden)
        yield shown[0]
    if network.is_fused:
        experts = FusedExperts(module.get_submodule(network.path))
        for expert in range(network.n_experts or 0):
            yield experts.at_site(experts.project(hidden, expert), site)


def _site_place(network: FeedForward, site: Site) -> Place:
    """Return the module, and which of its calls, that shows a dense network's site."""
    if site == "activation":
        return network.down
    # Where a function is the nonlinearity of a network that is not gated, it sees what the input projection yields.
    return network.nonlinearity or replace(network.down, path=network.input_paths[0])


def _hook_dense(
    module: nn.Module, network: FeedForward, site: Site, visit: Callable[[torch.Tensor], torch.Tensor | None]
) -> RemovableHandle:
    """Give `visit` the values at a site of a dense network; what it returns, unless None, replaces them."""

    def rewritten(values: torch.Tensor) -> torch.Tensor | None:
        written = visit(values)
        if written is None or _checked(written, values, network).stride() == values.stride():
            return written
        # In the memory layout of what was read: kernels round differently with another.
        laid_out = torch.empty_strided(values.shape, values.stride(), dtype=values.dtype, device=values.device)
        return laid_out.copy_(written)

    def before(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        written = rewritten(inputs[0])
        return None if written is None else (written, *inputs[1:])

    shown = module.get_submodule(_site_place(network, site).path)
    if site == "activation" or (site == "preactivation" and network.nonlinearity is not None):
        return shown.register_forward_pre_hook(before)
    return shown.register_forward_hook(lambda _, __, output: rewritten(output))


def _checked(written: torch.Tensor, values: torch.Tensor, network: FeedForward) -> torch.Tensor:
    """Return what is written in place of `values`; raise `IngestError` if it has another shape or type."""
    if written.shape != values.shape or written.dtype != values.dtype:
        of_both = [f"{tuple(each.shape)} {each.dtype}" for each in (written, values)]
        raise IngestError(f"{network.path}: {of_both[0]} cannot be written where {of_both[1]} was read")
    return written


def _hook_members(module: nn.Module, network: FeedForward, site: Site, visit: Visitor, undo: ExitStack) -> None:
    """Put hooks on experts that are modules, chosen by a mask [..., experts] of ones and zeros."""
    chosen: list[torch.Tensor] = []  # tokens of each expert

    def before(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        mask = (*arguments, *named.values())[1]
        # For all experts at once: a GPU is waited for each time.
        expert, token = mask.reshape(-1, mask.shape[-1]).T.nonzero(as_tuple=True)
        chosen[:] = token.split(torch.bincount(expert, minlength=mask.shape[-1]).tolist())

    def visit_rows(expert: int, values: torch.Tensor) -> torch.Tensor | None:
        if not chosen:  # run alone, by `every_expert`
            return None
        token = chosen[expert]
        if len(values) != len(token):
            problem = f"{network.path} runs expert {expert} on {len(values)} rows where its router chose {len(token)}"
            raise IngestError(f"{problem} tokens: what it computes is not what its router chose")
        return visit(network, NeuronValues(values, token, torch.full_like(token, expert)))

    experts = module.get_submodule(network.path)
    undo.enter_context(experts.register_forward_pre_hook(before, with_kwargs=True))
    undo.enter_context(experts.register_forward_hook(lambda *_: chosen.clear(), always_call=True))
    for expert, member in enumerate(network.members):
        undo.enter_context(_hook_dense(module, member, site, partial(visit_rows, expert)))


class _FusedHook:
    """The hook on a module of fused experts, shared by all its visitors, who are called in the order they came."""

    def __init__(self, module: nn.Module, network: FeedForward) -> None:
        self._experts = FusedExperts(module)
        self._network = network
        self.visitors: list[tuple[Site, Visitor]] = []
        # What the experts interface calls with the rows of all experts
        self._function = "_apply_gate" if module.has_gate else "act_fn"
        self._hidden: torch.Tensor | None = None  # kept until rows are checked, no longer
        self._is_checked = False
        self._before_run = module.register_forward_pre_hook(self._before, with_kwargs=True)
        module.__dict__[self._function] = self._activate  # an attribute of its own, before its class's or child
        module.__dict__[_HOOK] = self

    def remove(self, site: Site, visit: Visitor) -> None:
        """Remove a visitor; the last takes the hook off the module."""
        self.visitors.remove((site, visit))
        if not self.visitors:
            self._before_run.remove()
            del self._experts.module.__dict__[self._function], self._experts.module.__dict__[_HOOK]

    def _before(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Note the token and the expert of each row, given the router's choice [tokens, experts of a token]."""
        self._hidden = None if self._is_checked else experts_input(arguments, named)
        index = (*arguments, *named.values())[1]
        expert, n_chosen = index.reshape(-1), index.shape[-1]
        match self._experts.module.config._experts_implementation:  # type: ignore[union-attr]
            case "grouped_mm":
                self._expert, order = torch.sort(expert)
            case "batched_mm":
                self._expert, order = expert, torch.arange(len(expert), device=expert.device)
            case implementation:
                problem = f"{self._network.path} runs its experts by transformers' implementation {implementation!r}"
                raise IngestError(f"{problem}, whose rows cannot be read; grouped_mm and batched_mm can")
        self._token = order // n_chosen

    def _activate(self, projected: torch.Tensor) -> torch.Tensor:
        """Stand in for the module's own function, which makes activations of gate and up, or of up alone."""
        if self._hidden is not None:
            self._check_order(projected, self._hidden)
            self._is_checked, self._hidden = True, None
        projected = self._visit("preactivation", projected)
        if any(site == "gate" for site, _ in self.visitors):
            gate = self._experts.at_site(projected, "gate")
            if self._visit("gate", gate) is not gate:
                problem = f"{self._network.path}: the gate of experts held in one tensor can be read, not written"
                raise IngestError(f"{problem}; write the activation")
        return self._visit("activation", self._experts.at_site(projected, "activation"))

    def _visit(self, at: Site, values: torch.Tensor) -> torch.Tensor:
        """Call the visitors of a site; return the values, a copy where a visitor wrote."""
        for visit in [visit for site, visit in self.visitors if site == at]:
            shown = self._shown(at, values)
            written = visit(self._network, NeuronValues(shown, self._token, self._expert))
            if written is not None:
                values = values.clone()
                self._shown(at, values).copy_(_checked(written, shown, self._network))
        return values

    def _shown(self, site: Site, values: torch.Tensor) -> torch.Tensor:
        """Return the neurons' part of what is computed at a site: before the nonlinearity there may be up beside it."""
        return self._experts.halves(values)[0] if site == "preactivation" else values

    def _check_order(self, projected: torch.Tensor, hidden: torch.Tensor) -> None:
        """Recompute some rows from their token and expert: no release of transformers may reorder them unnoticed."""
        places = torch.linspace(0, len(self._token) - 1, min(_CHECKED_ROWS, len(self._token))).long()
        for place in places.tolist():
            token, expert = int(self._token[place]), int(self._expert[place])
            again = self._experts.project(hidden[token][None], expert)[0].detach().float()
            difference = float((projected[place].detach().float() - again).abs().max())
            if len(projected) != len(self._token) or difference > 0.05 * float(again.abs().max()) + 1e-6:
                problem = f"row {place} of its experts is not token {token} through expert {expert}"
                why = "this release of transformers orders them otherwise than is known here"
                raise IngestError(f"{self._network.path}: {problem}: {why}")
