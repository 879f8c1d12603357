"""Routers of mixtures of experts, and keeping them from choosing some experts while a model runs.

A router is known by structure: beside the experts in their block, the module with a matrix that has one row an expert.
While it runs, the scores of excluded experts are set to the lowest value wherever they arise, so that the router itself
chooses among the others. Whether it did is checked at the experts whenever it runs: some routers choose by other means.
"""

import contextlib
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ...errors import IngestError
from .feed_forwards import FeedForward, Layer

# What yields scores: logits, and what is added to them, or to their sigmoid, to keep the experts' load even.
_SCORING = frozenset({"linear", "add"})
_N_CHOSEN = ("num_experts_per_tok", "moe_topk", "top_k_experts")  # how configurations name the experts of a token


def experts_per_token(module: nn.Module, experts: FeedForward) -> int:
    """Return how many of its experts a layer sends a token to."""
    config = getattr(module.get_submodule(experts.path), "config", None)
    numbers = (getattr(config, name, None) for name in _N_CHOSEN)
    return next((number for number in numbers if isinstance(number, int)), 1)  # 1 in Switch, which does not say


@contextlib.contextmanager
def exclude_experts(module: nn.Module, layer: Layer, excluded: Collection[int]) -> Iterator[None]:
    """Keep a layer's router from choosing the experts of some numbers whenever `module` runs inside the context.

    The router computes as if their logits, and the corrections that only its choice sees, were the lowest there are: it
    chooses the best of the others. The weights of those follow by its own rule: a softmax over all experts is one over
    those not excluded, and what is normalised over the chosen is so still. Afterwards the module is as before.

    Raise `IngestError` if fewer remain than a token is sent to, or if its router cannot be identified; while the model
    runs, if an excluded expert is chosen nevertheless.
    """
    if not excluded:
        yield
        return
    experts = layer.experts
    assert experts is not None  # there are some to exclude
    n_experts, n_chosen = experts.n_experts or 0, experts_per_token(module, experts)
    numbers = torch.tensor(sorted(set(excluded)))
    n_left = n_experts - len(numbers)
    if n_left < n_chosen:
        raise IngestError(
            f"{experts.path}: {n_left} of {n_experts} experts are left, its router sends a token to {n_chosen}; "
            f"leave {n_chosen} at least"
        )
    router, check = _router(module, layer, experts), partial(_check_choice, experts, numbers)
    with (
        module.get_submodule(experts.path).register_forward_pre_hook(check, with_kwargs=True),
        _run_within(router, _Exclusion(n_experts, numbers)),
    ):
        yield


class _Exclusion(TorchFunctionMode):
    """Lowers the scores of excluded experts in whatever is computed inside."""

    def __init__(self, n_experts: int, excluded: torch.Tensor) -> None:
        super().__init__()
        self._n_experts = n_experts
        self._excluded = excluded

    def __torch_function__(self, function: Any, _: Any, arguments: Any = (), named: Any = None) -> Any:  # noqa: ANN401
        # Before the best are taken, routers that choose among groups may have raised scores to 0 again.
        if function.__name__ == "topk":
            arguments = (self._lowered(arguments[0]), *arguments[1:])
        result = function(*arguments, **(named or {}))
        return self._lowered(result) if function.__name__ in _SCORING else result

    def _lowered(self, scores: torch.Tensor) -> torch.Tensor:
        if scores.shape[-1:] != (self._n_experts,):  # of groups, or a sum of weights
            return scores
        return scores.index_fill(-1, self._excluded.to(scores.device), torch.finfo(scores.dtype).min)


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


def _check_choice(
    experts: FeedForward, excluded: torch.Tensor, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """Refuse a choice of excluded experts, before these run."""
    choice = (*arguments, *named.values())[1]
    if experts.members:  # a mask [..., experts] instead of indices
        choice = torch.nonzero(choice)[:, -1]
    chosen = excluded[torch.isin(excluded.to(choice.device), choice).cpu()]
    if len(chosen):
        raise IngestError(
            f"{experts.path}: its router chose expert {int(chosen[0])} although it was to be excluded; it does not "
            "choose by scores alone, or too few experts are left in the groups it chooses among"
        )


def _router(module: nn.Module, layer: Layer, experts: FeedForward) -> nn.Module:
    """Return the module beside the experts that holds one matrix with a row for each of them."""
    path = experts.path.rpartition(".")[0]
    block = module.get_submodule(path)
    networks = tuple(f"{of}." for network in layer.feed_forwards for of in (network.path, *network.input_paths))
    matrices = [
        name
        for name, weight in block.named_parameters(prefix=path)
        if weight.ndim == 2 and len(weight) == experts.n_experts and not name.startswith(networks)
    ]
    routers = [getattr(block, name.removeprefix(f"{path}.").split(".")[0]) for name in matrices]
    if len(routers) != 1 or not isinstance(routers[0], nn.Module):
        raise IngestError(
            f"{experts.path}: its router is not the one module beside it with a row for each of {experts.n_experts} "
            f"experts (found: {', '.join(matrices) or 'none'}), so that no expert can be excluded"
        )
    return routers[0]
