"""The modules in which transformers holds experts, and what one expert of them computes.

Experts are either a list of modules, or fused: one tensor holds a projection of all of them. Fused modules differ in
layout (`has_gate`, `has_bias`, `is_transposed`, `is_concatenated`), which `FusedExperts` hides.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from ...errors import IngestError
from ...schema.vocabulary import Site


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
