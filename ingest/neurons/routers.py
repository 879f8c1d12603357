"""Routers of mixtures of experts, and keeping them from choosing an expert while a model runs.

A router is found by structure: beside the bank in its block, the module that holds a matrix with one row an expert.
While it runs, the scores of excluded experts are set to the lowest value wherever they arise, so that the router itself
chooses among the others. Whether it did is checked at the bank each time: some choose by other means.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ...errors import IngestError
from .feed_forwards import FeedForward, Layer

__all__ = ["exclude_experts"]

# What yields scores: logits, and what is added to them, or to their sigmoid, to keep the experts' load even.
_SCORING = frozenset({"linear", "add"})
# What takes the best of them. Before it, routers that choose among groups may have raised scores to 0 again.
_CHOOSING = frozenset({"topk"})
# How configurations name the experts of a token.
_N_CHOSEN = ("num_experts_per_tok", "moe_topk", "top_k_experts")


@contextlib.contextmanager
def exclude_experts(module: nn.Module, layer: Layer, excluded: Collection[int]) -> Iterator[None]:
    """Keep a layer's router from choosing some experts whenever `module` runs inside; it is itself again afterwards.

    The router computes as if the excluded experts' logits, and corrections that only its choice sees, were the lowest
    there are: it chooses the best of the others. Weights are then what it makes of them without the excluded: a softmax
    over all experts is one over those left, and what is normalised over the chosen is so still.

    Parameters
    ----------
    module
        The module that is run, which paths are relative to.
    layer
        The layer.
    excluded
        Its experts to exclude, from 0; none: nothing is touched.

    Raises
    ------
    IngestError
        If the layer has no such experts, if fewer are left than a token is sent to, or if its router cannot be found.
        While the model runs: if an excluded expert is chosen all the same, as by a table of tokens, or within groups of
        which too few experts are left.
    """
    if not excluded:
        yield
        return
    bank = layer.bank
    if bank is None:
        raise IngestError(f"{layer.stack} layer {layer.layer} has no experts that a router chooses among")
    n_experts = bank.n_experts or 0
    if strange := [each for each in excluded if not 0 <= each < n_experts]:
        raise IngestError(f"{bank.path} has no expert {strange[0]}; it has {n_experts}, from 0")
    n_left, n_chosen = n_experts - len(set(excluded)), _n_chosen(module.get_submodule(bank.path))
    if n_left < n_chosen:
        raise IngestError(
            f"{bank.path}: {n_left} of {n_experts} experts are left, its router sends a token to {n_chosen}; exclude "
            f"{n_experts - n_chosen} at most"
        )
    router = module.get_submodule(_router_path(module, layer, bank))
    experts = torch.tensor(sorted(set(excluded)))
    handle = module.get_submodule(bank.path).register_forward_pre_hook(_checker(bank, experts), with_kwargs=True)
    try:
        with _run_within(router, _Exclusion(n_experts, experts)):
            yield
    finally:
        handle.remove()


class _Exclusion(TorchFunctionMode):
    """Lowers the scores of some experts in whatever is computed inside."""

    def __init__(self, n_experts: int, experts: torch.Tensor) -> None:
        super().__init__()
        self._n_experts = n_experts
        self._experts = experts

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: tuple[type, ...],
        arguments: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        if function.__name__ in _CHOOSING:
            arguments = (self._lowered(arguments[0]), *arguments[1:])
        result = function(*arguments, **(named or {}))
        return self._lowered(result) if function.__name__ in _SCORING else result

    def _lowered(self, scores: torch.Tensor) -> torch.Tensor:
        if scores.shape[-1:] != (self._n_experts,):  # of groups, or a sum of weights
            return scores
        return scores.index_fill(-1, self._experts.to(scores.device), torch.finfo(scores.dtype).min)


@contextlib.contextmanager
def _run_within(module: nn.Module, mode: TorchFunctionMode) -> Iterator[None]:
    """Have a module's own forward, and nothing else, run within a mode."""
    before = module.__dict__.get("forward")  # there may be one already: of an exclusion around this one
    forward = module.forward

    def within(*arguments: object, **named: object) -> object:
        with mode:
            return forward(*arguments, **named)

    module.__dict__["forward"] = within
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if before is not None:
            module.__dict__["forward"] = before


def _checker(bank: FeedForward, experts: torch.Tensor) -> Callable[..., None]:
    """Return a hook on a bank that refuses a choice of some experts."""

    def check(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        choice = (*arguments, *named.values())[1]
        if bank.members:  # a mask [..., experts] instead of indices
            choice = torch.nonzero(choice)[:, -1]
        chosen = experts[torch.isin(experts.to(choice.device), choice).cpu()]
        if len(chosen):
            raise IngestError(
                f"{bank.path}: its router chose expert {int(chosen[0])} although it was to be excluded; it does not "
                "choose by scores alone, or too few experts are left in the groups it chooses among"
            )

    return check


def _router_path(module: nn.Module, layer: Layer, bank: FeedForward) -> str:
    """Return the path of the module beside a bank that holds one matrix with a row for each of its experts."""
    block = bank.path.rpartition(".")[0]
    networks = [each.path for each in layer.feed_forwards]
    networks += [path for each in layer.feed_forwards for path in each.input_paths]
    matrices = [
        name
        for name, weight in module.get_submodule(block).named_parameters(prefix=block)
        if weight.ndim == 2 and len(weight) == bank.n_experts and not any(name.startswith(f"{it}.") for it in networks)
    ]
    found = [name.removeprefix(f"{block}.").split(".")[0] for name in matrices]
    if len(found) != 1 or not isinstance(getattr(module.get_submodule(block), found[0]), nn.Module):
        raise IngestError(
            f"{bank.path}: its router is not the one module beside it with a row for each of {bank.n_experts} experts "
            f"(found: {', '.join(matrices) or 'none'}), so that no expert can be excluded"
        )
    return f"{block}.{found[0]}"


def _n_chosen(bank: nn.Module) -> int:
    """Return to how many experts a token is sent by its configuration; 1 where that says nothing, as in Switch."""
    config = getattr(bank, "config", None)
    numbers = (getattr(config, name, None) for name in _N_CHOSEN)
    return next((number for number in numbers if isinstance(number, int)), 1)
