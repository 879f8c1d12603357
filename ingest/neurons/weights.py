"""The weights of neurons: the vectors that lead to and from a neuron, their norms, and the tokens they stand for."""

from collections.abc import Iterator
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.pytorch_utils import Conv1D

from ...errors import IngestError, check_known
from ...schema.vocabulary import WeightKind
from .experts import FusedExperts
from .feed_forwards import FeedForward, Layer

# Types that hold weights as they are; others are scaled by something beside them.
_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Neurons and tokens of one product: at most 64 MB of it are in memory, whatever the vocabulary.
_NEURONS_TOGETHER = 512
_TOKENS_TOGETHER = 32_768
_PROBED_ROWS = 1024  # rows of the identity sent at a time through a layer whose weights are packed


def weight_norms(module: nn.Module, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the L2 norms of input weights (gate and up together) and output weights: float32 on the CPU [neurons]."""
    inputs, outputs = [], []
    for network, expert in _networks(layer):
        # As float64, in which squares cannot overflow.
        squares = (rows.square().sum(1) for rows in _input_weights(module, network, expert))
        inputs.append(sum(squares, torch.zeros(1, dtype=torch.float64)))
        outputs.append(_output_weights(module, network, expert).square().sum(1))
    return torch.cat(inputs).sqrt().float(), torch.cat(outputs).sqrt().float()


def weight_vectors(module: nn.Module, layer: Layer, kind: WeightKind) -> NDArray[np.float32]:
    """Return one kind of weights of a layer's neurons, in their order. [neurons, features].

    The gate is the projection that says so in its name, else the first, as in transformers' text models (``wi_0`` of
    T5, the first half of ModernBERT's ``Wi``).
    """
    check_known("kind of weights", [kind], get_args(WeightKind))
    where = f"{layer.stack} layer {layer.layer}"
    vectors = []
    for network, expert in _networks(layer):
        if kind in ("gate", "up") and not network.is_gated:
            problem = f"{network.path} is not gated, so its neurons have no weights {kind}, only input"
            raise IngestError(f"{where}: {problem}")
        if kind == "output":
            rows = _output_weights(module, network, expert)
        else:
            inputs = list(_input_weights(module, network, expert))
            rows = torch.cat(inputs, dim=1) if kind == "input" else inputs[("gate", "up").index(kind)]
        vectors.append(rows.float())
    lengths = sorted({rows.shape[1] for rows in vectors})
    if len(lengths) > 1:
        raise IngestError(f"{where}: its neurons have {kind} weights of {' or '.join(map(str, lengths))} numbers")
    return torch.cat(vectors).numpy()


def extreme_tokens(vectors: torch.Tensor, tokens: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places of the n highest products of each vector with tokens, then of the n lowest; and the products.

    Vectors are float32 [neurons, features], tokens of any floating-point type on any device [tokens, features]. Both
    results are on the CPU [neurons, 2 n], the furthest from zero of either end first.
    """
    n = min(n, len(tokens))
    found = [_extremes(block.to(tokens.device), tokens, n) for block in vectors.split(_NEURONS_TOGETHER)]  # type: ignore[no-untyped-call]
    place, product = (torch.cat(of).cpu() for of in zip(*found, strict=True))
    return place, product


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as one of torch's own types, where a quantisation has a type of its own for it."""
    return tensor.detach() if type(tensor) in (torch.Tensor, nn.Parameter) else tensor.detach().dequantize()


def _networks(layer: Layer) -> Iterator[tuple[FeedForward, int]]:
    """Yield the networks of a layer in the order of their neurons, fused experts once for each expert."""
    for network in layer.feed_forwards:
        for expert in range(network.n_experts or 1):
            yield network.members[expert] if network.members else network, expert


def _input_weights(module: nn.Module, network: FeedForward, expert: int) -> Iterator[torch.Tensor]:
    """Yield the input weights, where gated the gate's and then up's, as float64 on the CPU. [neurons, hidden]."""
    if network.is_fused:
        experts = FusedExperts(module.get_submodule(network.path))
        # The halves are of the projection's outputs, which are the rows of its weights.
        yield from (half.T for half in experts.halves(_fused_weight(experts, experts.input_name, expert).T))
    for path in sorted(network.input_paths, key=lambda path: "gate" not in path.rpartition(".")[2]):
        # Both in one: the gate's rows stand before up's.
        yield from _weight(module.get_submodule(path)).split(network.n_neurons)  # type: ignore[no-untyped-call]


def _output_weights(module: nn.Module, network: FeedForward, expert: int) -> torch.Tensor:
    """Return the output weights as float64 on the CPU. [neurons, hidden]."""
    down = module.get_submodule(network.path)
    return (_fused_weight(FusedExperts(down), "down_proj", expert) if network.is_fused else _weight(down)).T


def _fused_weight(experts: FusedExperts, name: str, expert: int) -> torch.Tensor:
    weight, kind = experts.weight(name, expert), type(experts.module).__name__
    if weight.dtype not in _PLAIN:
        raise IngestError(f"{kind} holds its experts as {weight.dtype}, whose weights cannot be read")
    return weight.detach().to("cpu", torch.float64)


def _weight(layer: nn.Module) -> torch.Tensor:
    """Return the weights [outputs, inputs] of a linear layer as float64 on the CPU."""
    weight = getattr(layer, "weight", None)
    if isinstance(layer, Conv1D):
        return layer.weight.detach().to("cpu", torch.float64).T
    n_inputs, n_outputs = int(layer.in_features), int(layer.out_features)  # type: ignore[arg-type]
    if isinstance(weight, torch.Tensor) and weight.dtype in _PLAIN and weight.shape == (n_outputs, n_inputs):
        return plain(weight).to("cpu", torch.float64)
    # Packed by a quantisation: what the layer makes of the identity, less what it makes of nothing.
    tensors = (*layer.parameters(), *layer.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    with torch.inference_mode():
        identity = torch.eye(n_inputs, dtype=dtype, device=device)
        nothing = layer(torch.zeros_like(identity[:1])).double()
        rows = [layer(some).double() - nothing for some in torch.split(identity, _PROBED_ROWS)]
    return torch.cat(rows).T.cpu()


def _extremes(block: torch.Tensor, tokens: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    ends: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    places: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for start in range(0, len(tokens), _TOKENS_TOGETHER):
        product = block @ tokens[start : start + _TOKENS_TOGETHER].float().T
        for is_highest in ends:
            values, index = product.topk(min(n, product.shape[1]), largest=is_highest)
            ends[is_highest].append(values)
            places[is_highest].append(index + start)
    best = {is_highest: torch.cat(of, 1).topk(n, largest=is_highest) for is_highest, of in ends.items()}
    place = [torch.cat(places[is_highest], 1).gather(1, index) for is_highest, (_, index) in best.items()]
    return torch.cat(place, 1), torch.cat([values for values, _ in best.values()], 1)
