"""Banks of experts: what each expert computes for the tokens that the router sends to it, or for all tokens.

Banks that hold their experts in one tensor run through transformers' experts interface: the bank's own forward stays
in place, and its gating function, which the interface calls with the rows of all experts, is what is watched. Which
row is which token's follows from the implementation; it is checked against the weights whenever a bank is first seen.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...errors import IngestError
from ...schema.vocabulary import Site
from .feed_forwards import FeedForward
from .sites import Seen, Visitor, checked, tap_module

__all__ = ["bank_input", "every_expert", "tap_bank"]

# Rows that are computed anew to check which token they are of.
_CHECKED_ROWS = 4
# Where a bank keeps its watch, if it has one.
_WATCH = "_neuronlake_watch"


def bank_input(arguments: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    """Return what entered a bank [tokens, hidden size], from the arguments of its forward."""
    hidden: torch.Tensor = (*arguments, *named.values())[0]
    return hidden.reshape(-1, hidden.shape[-1])


def tap_bank(module: nn.Module, network: FeedForward, site: Site, visit: Visitor, undo: ExitStack) -> None:
    """Show `visit` the rows of a bank whenever it runs, until `undo` is closed."""
    bank = module.get_submodule(network.path)
    if network.members:
        _tap_modules(module, bank, network, site, visit, undo)
        return
    if site == "gate":
        _check_gate(bank, network.width)
    watch: _Watch = bank.__dict__.get(_WATCH) or _Watch(bank, network)
    watch.add(site, visit)
    undo.callback(watch.remove, site, visit)


def every_expert(module: nn.Module, network: FeedForward, site: Site, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield what each expert makes of all tokens, whatever the router chose.

    Parameters
    ----------
    module
        The module that is run.
    network
        The bank.
    site
        What to read.
    hidden
        What entered the bank. [tokens, hidden size]

    Yields
    ------
    tensor
        [tokens, neurons of an expert]
    """
    bank = module.get_submodule(network.path)
    for expert in range(network.n_experts or 0):
        if network.members:
            yield _run_member(module, network.members[expert], site, hidden)
        else:
            yield _at_site(bank, _project(bank, hidden, expert), site)


class _Watch:
    """Watches a bank whose experts are held in one tensor, for any number of visitors, in the order they came."""

    def __init__(self, bank: nn.Module, network: FeedForward) -> None:
        self._bank = bank
        self._network = network
        self._visitors: list[tuple[Site, Visitor]] = []
        self._handles: list[RemovableHandle] = []
        self._hidden: torch.Tensor | None = None  # kept until rows are checked, no longer
        self._is_checked = False

    def add(self, site: Site, visit: Visitor) -> None:
        """Take a visitor on; the first puts the watch on the bank."""
        self._visitors.append((site, visit))
        if len(self._visitors) > 1:
            return
        self._bank.__dict__[_WATCH] = self
        self._handles.append(self._bank.register_forward_pre_hook(self._before, with_kwargs=True))
        if self._bank.has_gate:
            self._bank.__dict__["_apply_gate"] = self._apply_gate
        else:
            nonlinearity = self._bank.get_submodule("act_fn")
            self._handles.append(nonlinearity.register_forward_pre_hook(self._before_nonlinearity))
            self._handles.append(nonlinearity.register_forward_hook(self._after_nonlinearity))

    def remove(self, site: Site, visit: Visitor) -> None:
        """Let a visitor go; the last takes the watch off the bank."""
        self._visitors.remove((site, visit))
        if not self._visitors:
            for handle in self._handles:
                handle.remove()
            for name in ("_apply_gate", _WATCH):
                self._bank.__dict__.pop(name, None)

    def _before(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        index = (*arguments, *named.values())[1]
        self._hidden = None if self._is_checked else bank_input(arguments, named)
        self._token, self._expert = _row_order(self._bank, self._network, index)

    def _apply_gate(self, projected: torch.Tensor) -> torch.Tensor:
        """Stand in for the bank's own function, which makes activations of gate and up."""
        self._check_order(projected)
        projected = self._show("preactivation", projected, part=lambda values: _gate_part(self._bank, values))
        if any(site == "gate" for site, _ in self._visitors):
            gate = _at_site(self._bank, projected, "gate")
            if self._show("gate", gate) is not gate:
                raise IngestError(
                    f"{self._network.path}: the gate of experts held in one tensor can be read, not written; write the "
                    "activation"
                )
        return self._show("activation", _at_site(self._bank, projected, "activation"))

    def _before_nonlinearity(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        self._check_order(inputs[0])
        return (self._show("preactivation", inputs[0]),)

    def _after_nonlinearity(self, _: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        return self._show("activation", output)

    def _show(
        self, site: Site, values: torch.Tensor, *, part: Callable[[torch.Tensor], torch.Tensor] = lambda values: values
    ) -> torch.Tensor:
        """Show a part of some values to the visitors of a site; return the values, a copy where a visitor wrote."""
        for wanted, visit in self._visitors:
            if wanted != site:
                continue
            seen = part(values)
            written = visit(self._network, Seen(seen, self._token, self._expert))
            if written is not None:
                values = values.clone()
                part(values).copy_(checked(written, seen, self._network))
        return values

    def _check_order(self, projected: torch.Tensor) -> None:
        """Compute some rows anew from their token and expert: no release of transformers may reorder them unnoticed."""
        if self._hidden is None:
            return
        places = torch.linspace(0, len(self._token) - 1, min(_CHECKED_ROWS, len(self._token))).long()
        for place in places.tolist():
            token, expert = int(self._token[place]), int(self._expert[place])
            again = _project(self._bank, self._hidden[token][None], expert)[0].detach().float()
            difference = float((projected[place].detach().float() - again).abs().max())
            if len(projected) != len(self._token) or difference > 0.05 * float(again.abs().max()) + 1e-6:
                raise IngestError(
                    f"{self._network.path}: row {place} of its experts is not token {token} through expert {expert}: "
                    "this release of transformers orders them otherwise than is known here"
                )
        self._is_checked, self._hidden = True, None


def _row_order(bank: nn.Module, network: FeedForward, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the token and the expert of each row that the bank's implementation makes of the router's choice."""
    implementation = bank.config._experts_implementation  # type: ignore[union-attr]
    n_chosen, expert = index.shape[-1], index.reshape(-1)
    match implementation:
        case "grouped_mm":
            expert, order = torch.sort(expert)
            return order // n_chosen, expert
        case "batched_mm":
            return torch.arange(len(expert), device=expert.device) // n_chosen, expert
    raise IngestError(
        f"{network.path} runs its experts by transformers' implementation {implementation!r}, whose rows cannot be "
        "read; grouped_mm and batched_mm can"
    )


def _project(bank: nn.Module, hidden: torch.Tensor, expert: int) -> torch.Tensor:
    """Return what one expert's input projection makes of some tokens: gate and up, or up alone."""
    name = "gate_up_proj" if bank.has_gate else "up_proj"
    weight: torch.Tensor = getattr(bank, name)[expert]
    projected = hidden.to(weight.dtype) @ (weight if bank.is_transposed else weight.T)
    if bank.has_bias:
        projected = projected + getattr(bank, f"{name}_bias")[expert]
    return projected


def _gate_part(bank: nn.Module, projected: torch.Tensor) -> torch.Tensor:
    """Return the gate's half of gate and up, as a view."""
    return projected.chunk(2, dim=-1)[0] if bank.is_concatenated else projected[..., ::2]


def _at_site(bank: nn.Module, projected: torch.Tensor, site: Site) -> torch.Tensor:
    """Return what experts hold at a site, from what their input projection yields, past all that watches them."""
    result: torch.Tensor
    if not bank.has_gate:
        # forward, not the call: hooks on the nonlinearity are for the rows of the network itself.
        result = projected if site == "preactivation" else bank.get_submodule("act_fn").forward(projected)
        return result
    apply_gate = type(bank)._apply_gate  # type: ignore[attr-defined]
    if site == "preactivation":
        return _gate_part(bank, projected)
    if site == "activation":
        result = apply_gate(bank, projected)
        return result
    # The activation is linear in up: up * act(gate), or (up + 1) * act(gate) in GPT-OSS and its kin. Its slope is
    # act(gate), to the bit, without knowing which.
    result = apply_gate(bank, _with_up(bank, projected, 1.0)) - apply_gate(bank, _with_up(bank, projected, 0.0))
    return result


def _check_gate(bank: nn.Module, width: int) -> None:
    """Refuse the gate of experts whose activation is not linear in up."""
    apply_gate = type(bank)._apply_gate  # type: ignore[attr-defined]
    device = next(bank.parameters()).device
    gates = torch.linspace(-4, 4, 2 * width, device=device)[None]
    at_zero, at_half, at_one = (apply_gate(bank, _with_up(bank, gates, up)) for up in (0.0, 0.5, 1.0))
    if float((at_zero + at_one - 2 * at_half).abs().max()) > 1e-5 * float((at_one - at_zero).abs().max()):
        raise IngestError(f"{type(bank).__name__}: its activation is not act(gate) times up, so it has no site gate")


def _with_up(bank: nn.Module, projected: torch.Tensor, up: float) -> torch.Tensor:
    changed = projected.clone()
    (changed.chunk(2, dim=-1)[1] if bank.is_concatenated else changed[..., 1::2]).fill_(up)
    return changed


def _tap_modules(
    module: nn.Module, bank: nn.Module, network: FeedForward, site: Site, visit: Visitor, undo: ExitStack
) -> None:
    """Put hooks on a bank that runs one module an expert, chosen by a mask [..., experts] of ones and zeros."""
    chosen: list[torch.Tensor] = []

    def before(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        mask = (*arguments, *named.values())[1]
        mask = mask.reshape(-1, mask.shape[-1]) != 0
        chosen[:] = [torch.nonzero(mask[:, expert]).flatten() for expert in range(mask.shape[1])]

    def member(expert: int) -> Callable[[torch.Tensor], torch.Tensor | None]:
        def read(values: torch.Tensor) -> torch.Tensor | None:
            if not chosen:  # run alone, by `every_expert`
                return None
            token = chosen[expert]
            if len(values) != len(token):
                raise IngestError(
                    f"{network.path} runs expert {expert} on {len(values)} rows where its router chose {len(token)} "
                    "tokens: what it computes is not what its router chose"
                )
            return visit(network, Seen(values, token, torch.full_like(token, expert)))

        return read

    undo.callback(bank.register_forward_pre_hook(before, with_kwargs=True).remove)
    undo.callback(bank.register_forward_hook(lambda *_: chosen.clear(), always_call=True).remove)
    for expert, each in enumerate(network.members):
        undo.callback(tap_module(module, each, site, member(expert)).remove)


def _run_member(module: nn.Module, member: FeedForward, site: Site, hidden: torch.Tensor) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    handle = tap_module(module, member, site, seen.append)
    try:
        module.get_submodule(member.path.rpartition(".")[0])(hidden)
    finally:
        handle.remove()
    return seen[0]
