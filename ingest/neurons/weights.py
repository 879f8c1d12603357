"""The weights of neurons: their vectors, and the norms of these."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.pytorch_utils import Conv1D

from ...errors import IngestError, UnknownNameError
from ...schema.vocabulary import WeightKind
from .feed_forwards import FeedForward, Layer

__all__ = ["plain", "weight_norms", "weight_vectors"]

# Types that hold weights as they are; others are scaled by something beside them.
_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Rows of the identity sent at a time through a layer whose weights are packed.
_PROBED_ROWS = 1024


def weight_norms(module: nn.Module, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the L2 norms of each neuron's input weights (gate and up together) and output weights.

    Parameters
    ----------
    module
        The module that is run.
    layer
        The layer.

    Returns
    -------
    input_norms, output_norms
        float32, on the CPU. [n_neurons] each
    """
    inputs, outputs = [], []
    for _, each in _projections(module, layer):
        # As float64, in which squares cannot overflow.
        inputs.append(sum((rows.square().sum(1) for rows in each.inputs()), torch.zeros(1, dtype=torch.float64)))
        outputs.append(each.output().square().sum(1))
    return torch.cat(inputs).sqrt().float(), torch.cat(outputs).sqrt().float()


def weight_vectors(module: nn.Module, layer: Layer, kind: WeightKind) -> NDArray[np.float32]:
    """Return the weights of each neuron of a layer.

    Of the two input projections of a gated network, the gate is the one that says so in its name; failing that the
    first, as it is in transformers' text models (``wi_0`` of T5, the first half of ModernBERT's ``Wi``).

    Parameters
    ----------
    module
        The module that is run.
    layer
        The layer.
    kind
        Which weights.

    Returns
    -------
    vectors
        One row a neuron, in the order of the layer's neurons. [neurons, features]

    Raises
    ------
    IngestError
        If gate or up is asked for and a network of the layer is not gated, or if its networks' weights differ in
        length.
    UnknownNameError
        If there is no such kind of weights.
    """
    if kind not in get_args(WeightKind):
        raise UnknownNameError("kind of weights", kind, get_args(WeightKind))
    where = f"{layer.stack} layer {layer.layer}"
    vectors = []
    for network, each in _projections(module, layer):
        if kind in ("gate", "up") and not network.is_gated:
            raise IngestError(
                f"{where}: {network.path} is not gated, so its neurons have no weights {kind}, only input"
            )
        if kind == "output":
            rows = each.output()
        elif kind == "input":
            rows = torch.cat(list(each.inputs()), dim=1)
        else:
            rows = list(each.inputs())[("gate", "up").index(kind)]
        vectors.append(rows.float())
    lengths = sorted({rows.shape[1] for rows in vectors})
    if len(lengths) > 1:
        raise IngestError(f"{where}: its neurons have {kind} weights of {' or '.join(map(str, lengths))} numbers")
    return torch.cat(vectors).numpy()


class _Projections(Protocol):
    """The weights of one network, or of one expert, as float64 on the CPU, one row [hidden] a neuron."""

    def inputs(self) -> Iterator[torch.Tensor]:
        """Yield the input weights, in a gated network the gate's and then up's."""

    def output(self) -> torch.Tensor:
        """Return the output weights."""


@dataclass(frozen=True, slots=True)
class _Linears:
    """Projections that are modules."""

    module: nn.Module
    network: FeedForward

    def inputs(self) -> Iterator[torch.Tensor]:
        for path in sorted(self.network.input_paths, key=_is_not_gate):
            # Both in one: the gate's rows stand before up's.
            yield from _weight(self.module.get_submodule(path)).split(self.network.n_neurons)  # type: ignore[no-untyped-call]

    def output(self) -> torch.Tensor:
        return _weight(self.module.get_submodule(self.network.path)).T


@dataclass(frozen=True, slots=True)
class _Expert:
    """Projections of one of the experts that a bank holds in one tensor."""

    bank: nn.Module
    expert: int

    def inputs(self) -> Iterator[torch.Tensor]:
        rows = self._rows("gate_up_proj" if self.bank.has_gate else "up_proj", self.bank.is_transposed)
        if not self.bank.has_gate:
            yield rows
        elif self.bank.is_concatenated:
            yield from rows.chunk(2)
        else:
            yield from (rows[0::2], rows[1::2])

    def output(self) -> torch.Tensor:
        return self._rows("down_proj", not self.bank.is_transposed)

    def _rows(self, name: str, is_transposed: object) -> torch.Tensor:
        weights: torch.Tensor = getattr(self.bank, name)
        if weights.dtype not in _PLAIN:
            kind = type(self.bank).__name__
            raise IngestError(f"{kind} holds its experts as {weights.dtype}, whose weights cannot be told")
        rows = weights[self.expert].detach().to("cpu", torch.float64)
        return rows.T if is_transposed else rows


def _projections(module: nn.Module, layer: Layer) -> Iterator[tuple[FeedForward, _Projections]]:
    """Yield the networks of a layer and their experts in the order of their neurons."""
    for network in layer.feed_forwards:
        if network.members:
            yield from ((each, _Linears(module, each)) for each in network.members)
        elif network.n_experts is not None:
            bank = module.get_submodule(network.path)
            yield from ((network, _Expert(bank, expert)) for expert in range(network.n_experts))
        else:
            yield network, _Linears(module, network)


def _is_not_gate(path: str) -> bool:
    return "gate" not in path.rpartition(".")[2]


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as torch's own, where a quantisation put a kind of its own in its place."""
    return tensor.detach() if type(tensor) in (torch.Tensor, nn.Parameter) else tensor.detach().dequantize()


def _weight(layer: nn.Module) -> torch.Tensor:
    """Return the weights [outputs, inputs] of a linear layer as float64."""
    weight = getattr(layer, "weight", None)
    if isinstance(layer, Conv1D):
        return layer.weight.detach().to("cpu", torch.float64).T
    n_inputs, n_outputs = int(layer.in_features), int(layer.out_features)  # type: ignore[arg-type]
    if isinstance(weight, torch.Tensor) and weight.dtype in _PLAIN and weight.shape == (n_outputs, n_inputs):
        return plain(weight).to("cpu", torch.float64)
    # Packed by a quantisation: what the layer makes of the identity, less what it makes of nothing.
    held = (*layer.parameters(), *layer.buffers())
    device = next((each.device for each in held), torch.device("cpu"))
    dtype = next((each.dtype for each in held if each.is_floating_point()), torch.float32)
    with torch.inference_mode():
        nothing = layer(torch.zeros(1, n_inputs, dtype=dtype, device=device)).double()
        rows = [
            layer(torch.eye(n_inputs, dtype=dtype, device=device)[start : start + _PROBED_ROWS]).double() - nothing
            for start in range(0, n_inputs, _PROBED_ROWS)
        ]
    return torch.cat(rows).T.cpu()
