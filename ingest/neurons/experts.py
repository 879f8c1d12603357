"""Reading and writing the neurons of experts: for the tokens that the router sends to each, or for all tokens.

Fused experts run through transformers' experts interface. Their own forward stays in place; what is replaced is the
function between their projections, which the interface calls with the rows of all experts. Which row is which token's
follows from the implementation of the interface, and is checked against the weights when experts first run.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn

from ...errors import IngestError
from ...schema.vocabulary import Site
from .expert_modules import FusedExperts
from .feed_forwards import FeedForward
from .sites import NeuronValues, Visitor, checked, hook_network

# Rows that are recomputed to check which token they are of.
_CHECKED_ROWS = 4
# The attribute in which a module of experts keeps its hook while it has visitors.
_HOOK = "_neuronlake_hook"


def experts_input(arguments: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    """Return the hidden states [tokens, hidden size] that enter a module of experts, from its forward's arguments."""
    hidden: torch.Tensor = (*arguments, *named.values())[0]
    return hidden.reshape(-1, hidden.shape[-1])


def hook_experts(module: nn.Module, network: FeedForward, site: Site, visit: Visitor, undo: ExitStack) -> None:
    """Call `visit` with the rows of experts within `module` whenever they run, until `undo` is closed.

    Raise `IngestError` if the site is the gate and the experts' activation is not act(gate) * up.
    """
    if network.members:
        _hook_members(module, network, site, visit, undo)
        return
    experts = module.get_submodule(network.path)
    if site == "gate":
        FusedExperts(experts).check_gate(network.width)
    hook: _FusedHook = experts.__dict__.get(_HOOK) or _FusedHook(experts, network)
    hook.visitors.append((site, visit))
    undo.callback(hook.remove, site, visit)


def every_expert(module: nn.Module, network: FeedForward, site: Site, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
    """Run every expert on all tokens, whatever the router chose, and yield the values of one expert after the other.

    `hidden` are the states [tokens, hidden size] that enter the experts; values are [tokens, neurons of an expert].
    """
    for member in network.members:
        shown: list[torch.Tensor] = []
        with hook_network(module, member, site, shown.append):
            module.get_submodule(member.path.rpartition(".")[0])(hidden)
        yield shown[0]
    if network.is_fused:
        experts = FusedExperts(module.get_submodule(network.path))
        for expert in range(network.n_experts or 0):
            yield experts.at_site(experts.project(hidden, expert), site)


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
                raise IngestError(
                    f"{self._network.path} runs its experts by transformers' implementation {implementation!r}, whose "
                    "rows cannot be read; grouped_mm and batched_mm can"
                )
        self._token = order // n_chosen

    def _activate(self, projected: torch.Tensor) -> torch.Tensor:
        """Stand in for the module's own function, which makes activations of gate and up, or of up alone."""
        self._check_order(projected)
        projected = self._visit("preactivation", projected)
        if any(site == "gate" for site, _ in self.visitors):
            gate = self._experts.at_site(projected, "gate")
            if self._visit("gate", gate) is not gate:
                raise IngestError(
                    f"{self._network.path}: the gate of experts held in one tensor can be read, not written; write the "
                    "activation"
                )
        return self._visit("activation", self._experts.at_site(projected, "activation"))

    def _visit(self, at: Site, values: torch.Tensor) -> torch.Tensor:
        """Call the visitors of a site; return the values, a copy where a visitor wrote."""
        for site, visit in self.visitors:
            if site != at:
                continue
            shown = self._shown(at, values)
            written = visit(self._network, NeuronValues(shown, self._token, self._expert))
            if written is not None:
                values = values.clone()
                self._shown(at, values).copy_(checked(written, shown, self._network))
        return values

    def _shown(self, site: Site, values: torch.Tensor) -> torch.Tensor:
        """Return the neurons' part of what is computed at a site: before the nonlinearity there may be up beside it."""
        return self._experts.halves(values)[0] if site == "preactivation" else values

    def _check_order(self, projected: torch.Tensor) -> None:
        """Recompute some rows from their token and expert: no release of transformers may reorder them unnoticed."""
        if self._hidden is None:
            return
        places = torch.linspace(0, len(self._token) - 1, min(_CHECKED_ROWS, len(self._token))).long()
        for place in places.tolist():
            token, expert = int(self._token[place]), int(self._expert[place])
            again = self._experts.project(self._hidden[token][None], expert)[0].detach().float()
            difference = float((projected[place].detach().float() - again).abs().max())
            if len(projected) != len(self._token) or difference > 0.05 * float(again.abs().max()) + 1e-6:
                raise IngestError(
                    f"{self._network.path}: row {place} of its experts is not token {token} through expert {expert}: "
                    "this release of transformers orders them otherwise than is known here"
                )
        self._is_checked, self._hidden = True, None


def _hook_members(module: nn.Module, network: FeedForward, site: Site, visit: Visitor, undo: ExitStack) -> None:
    """Put hooks on experts that are modules, chosen by a mask [..., experts] of ones and zeros."""
    chosen: list[torch.Tensor] = []  # tokens of each expert

    def before(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        mask = (*arguments, *named.values())[1]
        chosen[:] = [torch.nonzero(tokens).flatten() for tokens in mask.reshape(-1, mask.shape[-1]).T]

    def visit_rows(expert: int, values: torch.Tensor) -> torch.Tensor | None:
        if not chosen:  # run alone, by `every_expert`
            return None
        token = chosen[expert]
        if len(values) != len(token):
            raise IngestError(
                f"{network.path} runs expert {expert} on {len(values)} rows where its router chose {len(token)} "
                "tokens: what it computes is not what its router chose"
            )
        return visit(network, NeuronValues(values, token, torch.full_like(token, expert)))

    experts = module.get_submodule(network.path)
    undo.enter_context(experts.register_forward_pre_hook(before, with_kwargs=True))
    undo.enter_context(experts.register_forward_hook(lambda *_: chosen.clear(), always_call=True))
    for expert, member in enumerate(network.members):
        undo.enter_context(hook_network(module, member, site, partial(visit_rows, expert)))
