"""Mixtures of experts: the modules that hold experts, and keeping routers from choosing some while a model runs.

Experts are either a list of modules, or fused: one tensor holds a projection of all of them. Fused modules differ in
layout (`has_gate`, `has_bias`, `is_transposed`, `is_concatenated`), which `FusedExperts` hides.

A router is known by structure: beside the experts in their block, the module with a matrix that has one row an expert.
While it runs, the scores of excluded experts are set to the lowest value wherever they arise, so that the router itself
chooses among the others. Whether it did is checked at the experts whenever it runs: some routers choose by other means.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ...errors import IngestError
from ...schema.vocabulary import Site
from .feed_forwards import FeedForward, Layer


def is_fused_experts(module: nn.Module) -> bool:
    """Return whether one tensor holds all experts, which run through transformers' experts interface."""
    return hasattr(module, "is_transposed") and isinstance(getattr(module, "down_proj", None), nn.Parameter)


def is_list_of_experts(module: nn.Module) -> bool:
    """Return whether each expert is a module of its own."""
    return isinstance(module, nn.ModuleDict | nn.ModuleList) and "Experts" in type(module).__name__


@dataclass(frozen=True, slots=True)
class FusedExperts:
    """Weights and arithmetic of single experts in a module of fused experts, past all hooks on the module."""

    module: nn.Module  # a module for which `is_fused_experts` holds

    @property
    def input_name(self) -> str:
        """Name of the projection to the neurons."""
        return "gate_up_proj" if self.module.has_gate else "up_proj"

    def weight(self, name: str, expert: int) -> torch.Tensor:
        """Return one expert's weights in the projection called `name`. [outputs, inputs]."""
        weight: torch.Tensor = getattr(self.module, name)[expert]
        return weight.T if self.module.is_transposed else weight

    def halves(self, both: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the gate's and up's part of the last axis, as views; all of it where there is no gate."""
        if not self.module.has_gate:
            return (both,)
        return both.chunk(2, dim=-1) if self.module.is_concatenated else (both[..., ::2], both[..., 1::2])

    def project(self, hidden: torch.Tensor, expert: int) -> torch.Tensor:
        """Return what one expert's input projection makes of hidden states [tokens, hidden]: gate and up, or up."""
        weight = self.weight(self.input_name, expert)
        projected = hidden.to(weight.dtype) @ weight.T
        if self.module.has_bias:
            projected = projected + getattr(self.module, f"{self.input_name}_bias")[expert]
        return projected

    def at_site(self, projected: torch.Tensor, site: Site) -> torch.Tensor:
        """Return the neurons' values at a site, given the output of the input projection. [rows, neurons]."""
        if site == "preactivation":
            return self.halves(projected)[0]
        if site == "activation":
            return self._activation(projected)
        # The activation is linear in up: up * act(gate), or (up + 1) * act(gate) in GPT-OSS and its kin. Its slope is
        # act(gate), to the bit, without knowing which.
        return self._activation(projected, up=1.0) - self._activation(projected, up=0.0)

    def check_gate(self, width: int) -> None:
        """Raise `IngestError` if the activation of experts, of `width` neurons each, is not linear in up."""
        gates = torch.linspace(-4, 4, 2 * width, device=next(self.module.parameters()).device)[None]
        at_zero, at_half, at_one = (self._activation(gates, up=up) for up in (0.0, 0.5, 1.0))
        if float((at_zero + at_one - 2 * at_half).abs().max()) > 1e-5 * float((at_one - at_zero).abs().max()):
            kind = type(self.module).__name__
            raise IngestError(f"{kind}: its activation is not act(gate) times up, so it has no site gate")

    def _activation(self, projected: torch.Tensor, *, up: float | None = None) -> torch.Tensor:
        """Return the activation, on request as if all values of up were `up`."""
        if up is not None:
            projected = projected.clone()
            self.halves(projected)[1].fill_(up)
        if self.module.has_gate:
            return cast("torch.Tensor", type(self.module)._apply_gate(self.module, projected))  # type: ignore[attr-defined]
        return cast("torch.Tensor", cast("nn.Module", self.module._modules["act_fn"])(projected))


Forward = Callable[..., Any]
"""A module's own forward: it takes and returns whatever the module does."""


@contextlib.contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., object]) -> Iterator[None]:
    """Have a module call `forward` inside, with its own forward before the arguments; afterwards it is as before."""
    before = module.__dict__.get("forward")  # there may be one: of a context around this one, or of accelerate
    module.__dict__["forward"] = partial(forward, module.forward)
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if before is not None:
            module.__dict__["forward"] = before


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

    The router chooses the best of the others, whose weights follow by its own rule: a softmax over all experts is one
    over those not excluded, and what is normalised over the chosen is so still. Afterwards the module is as before.
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
        problem = f"{experts.path}: {n_left} of {n_experts} experts are left, its router sends a token to {n_chosen}"
        raise IngestError(f"{problem}; leave {n_chosen} at least")
    router, check = _router(module, layer, experts), partial(_check_choice, experts, numbers)
    with (
        module.get_submodule(experts.path).register_forward_pre_hook(check, with_kwargs=True),
        forward_replaced(router, partial(_within, _Exclusion(n_experts, numbers))),
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


def _within(mode: TorchFunctionMode, forward: Forward, *arguments: object, **named: object) -> object:
    """Run a module's own forward, and nothing else, within a mode."""
    with mode:
        return forward(*arguments, **named)


def _check_choice(
    experts: FeedForward, excluded: torch.Tensor, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """Refuse a choice of excluded experts, before these run."""
    choice = (*arguments, *named.values())[1]
    if experts.members:  # a mask [..., experts] instead of indices
        choice = torch.nonzero(choice)[:, -1]
    chosen = excluded[torch.isin(excluded.to(choice.device), choice).cpu()]
    if len(chosen):
        problem = f"{experts.path}: its router chose expert {int(chosen[0])} although it was to be excluded"
        why = "it does not choose by scores alone, or too few experts are left in the groups it chooses among"
        raise IngestError(f"{problem}; {why}")


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
        problem = f"its router is not the one module beside it with a row for each of {experts.n_experts} experts"
        found = f"(found: {', '.join(matrices) or 'none'})"
        raise IngestError(f"{experts.path}: {problem} {found}, so that no expert can be excluded")
    return routers[0]
