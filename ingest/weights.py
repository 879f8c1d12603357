"""The norms of neurons' weights."""

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ..errors import IngestError
from .feed_forwards import FeedForward, Layer

__all__ = ["plain", "weight_norms"]

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
    squares = [_squares(module, each) for each in layer.feed_forwards]
    inputs, outputs = (torch.cat(each).sqrt().float() for each in zip(*squares, strict=True))
    return inputs, outputs


def _squares(module: nn.Module, network: FeedForward) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums of squares of each neuron's input and output weights, as float64, which cannot overflow."""
    if network.members:
        inputs, outputs = zip(*(_squares(module, each) for each in network.members), strict=True)
        return torch.cat(inputs), torch.cat(outputs)
    if network.n_experts is not None:
        return _squares_of_bank(module.get_submodule(network.path), network.n_experts)
    inputs_of = torch.zeros(network.n_neurons, dtype=torch.float64)
    for path in network.input_paths:
        rows = _weight(module.get_submodule(path)).square().sum(1)  # [n_neurons], or gate's and up's [2 * n_neurons]
        inputs_of += rows.reshape(-1, network.n_neurons).sum(0)
    return inputs_of, _weight(module.get_submodule(network.path)).square().sum(0)


def _squares_of_bank(bank: nn.Module, n_experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Do the same for experts in one tensor, one of them at a time in float64."""
    inputs, outputs = [], []
    projection = bank.gate_up_proj if bank.has_gate else bank.up_proj
    if projection.dtype not in _PLAIN:
        raise IngestError(f"{type(bank).__name__} holds its experts as {projection.dtype}, whose norms cannot be told")
    for expert in range(n_experts):
        into = projection[expert].detach().to("cpu", torch.float64)  # type: ignore[index]
        out = bank.down_proj[expert].detach().to("cpu", torch.float64)  # type: ignore[index]
        rows = (into.T if bank.is_transposed else into).square().sum(1)
        if bank.has_gate:
            rows = rows.reshape(2, -1).sum(0) if bank.is_concatenated else rows.reshape(-1, 2).sum(1)
        inputs.append(rows)
        outputs.append((out.T if bank.is_transposed else out).square().sum(0))
    return torch.cat(inputs), torch.cat(outputs)


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
