"""Where an architecture's neurons are, found by structure.

A neuron's activation is the input of the feed-forward network's down projection: in each block, the one
linear layer outside attention and state-space mixers that leads from the feed-forward width back to the hidden
size. The layers that lead into it, side by side with it, are its input projections; two of them, or one of twice
the width, make it gated. Where structure finds no such layer in a block, or more than one, the model is refused
by name: never a part of it measured in silence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from ..errors import IngestError

__all__ = ["Site", "find_sites", "weight_norms"]

# How configurations call the feed-forward width, the number of experts and the nonlinearity.
_WIDTHS = (
    "intermediate_size",
    "d_ff",
    "ffn_dim",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "hidden_dim",
    "n_inner",
    "d_inner",
    "ffn_hidden_size",
    "inner_dim",
)
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_ACTIVATIONS = (
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "dense_act_fn",
    "activation",
    "afn",
    "feed_forward_proj",
)


@dataclass(frozen=True, slots=True)
class Site:
    """One feed-forward layer: where its neurons are read.

    Parameters
    ----------
    stack
        encoder or decoder.
    layer
        0 at the embedding side, within its stack.
    module_path
        The down projection, whose input is the neurons' activations.
    input_paths
        The projections that lead to the neurons.
    n_neurons
        Width of the layer.
    activation_function
        The nonlinearity, as the configuration names it.
    is_gated
        Whether the activation is act(gate) * up.
    """

    stack: Literal["encoder", "decoder"]
    layer: int
    module_path: str
    input_paths: tuple[str, ...]
    n_neurons: int
    activation_function: str
    is_gated: bool


@dataclass(frozen=True, slots=True)
class _Linear:
    path: str
    n_inputs: int
    n_outputs: int


def find_sites(
    module: nn.Module, config: PreTrainedConfig, *, stack: Literal["encoder", "decoder"], name: str
) -> tuple[Site, ...]:
    """Find every feed-forward layer of a transformer body.

    Parameters
    ----------
    module
        The body.
    config
        Its text configuration.
    stack
        The stack its blocks are.
    name
        Name of the model, for errors.

    Raises
    ------
    IngestError
        If the layers cannot be told for every block, naming the model's class.
    """
    kind = f"model {name} ({type(module).__name__})"
    n_experts = next((getattr(config, key) for key in _EXPERTS if (getattr(config, key, 0) or 0) > 1), None)
    if n_experts is not None:
        raise IngestError(f"{kind} is a mixture of {n_experts} experts; only dense feed-forward layers can be measured")
    n_layers = getattr(config, "num_hidden_layers", None)
    blocks = _blocks(module, n_layers)
    if blocks is None:
        raise IngestError(f"{kind}: no list of {n_layers} blocks found in it, so its neurons cannot be located")
    width = _width(config)
    activation_function = next(
        (value for key in _ACTIVATIONS if isinstance(value := getattr(config, key, None), str)), "unknown"
    )
    sites = []
    for layer, (path, block) in enumerate(blocks):
        linears = [each for each in _linears(block, path) if not _mixes_tokens(each.path.removeprefix(path))]
        down = [each for each in linears if each.n_inputs == width and each.n_outputs == config.hidden_size]
        if len(down) != 1:
            found = ", ".join(f"{each.path} {each.n_inputs}->{each.n_outputs}" for each in linears) or "none"
            raise IngestError(
                f"{kind}: {len(down)} layers of block {layer} lead from the feed-forward width {width} to the hidden "
                f"size {config.hidden_size}, one expected; linear layers outside attention: {found}"
            )
        inputs = _inputs(linears, down[0], width, config.hidden_size)
        n_inputs = sum(each.n_outputs for each in inputs) // width
        if n_inputs not in (1, 2):
            raise IngestError(f"{kind}: {n_inputs} projections lead into {down[0].path}, one or two expected")
        sites.append(
            Site(
                stack=stack,
                layer=layer,
                module_path=down[0].path,
                input_paths=tuple(each.path for each in inputs),
                n_neurons=width,
                activation_function=activation_function,
                is_gated=n_inputs == 2,
            )
        )
    return tuple(sites)


def weight_norms(module: nn.Module, site: Site) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the L2 norms of each neuron's input weights (gate and up together) and output weights.

    Returns
    -------
    input_norms, output_norms
        float32, on the CPU. [n_neurons] each
    """
    squares = torch.zeros(site.n_neurons, dtype=torch.float64)
    for path in site.input_paths:
        rows = _weight(module, path).square().sum(1)  # [n_neurons], or twice that when gate and up are fused
        squares += rows.reshape(-1, site.n_neurons).sum(0)
    return squares.sqrt().float(), _weight(module, site.module_path).square().sum(0).sqrt().float()


def _weight(module: nn.Module, path: str) -> torch.Tensor:
    """Return the weights [outputs, inputs] of a linear layer as float64, whose squares cannot overflow."""
    layer = module.get_submodule(path)
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    plain = weight.detach().to("cpu", torch.float64)
    return plain.T if isinstance(layer, Conv1D) else plain


def _width(config: PreTrainedConfig) -> int:
    for key in _WIDTHS:
        value = getattr(config, key, None)
        if isinstance(value, int):
            return value
    return 4 * int(config.hidden_size)  # the default of the GPT-2 family, where n_inner is None


def _blocks(module: nn.Module, n_layers: int | None) -> list[tuple[str, nn.Module]] | None:
    """Return the blocks of the outermost list of `n_layers` modules, with their paths."""
    lists = [(path, each) for path, each in module.named_modules() if isinstance(each, nn.ModuleList)]
    for path, each in sorted(lists, key=lambda item: item[0].count(".")):
        if len(each) == n_layers:
            return [(f"{path}.{index}" if path else str(index), block) for index, block in enumerate(each)]
    return None


def _linears(block: nn.Module, prefix: str) -> Iterator[_Linear]:
    for path, each in block.named_modules(prefix=prefix):
        if isinstance(each, Conv1D):
            n_inputs, n_outputs = each.weight.shape
            yield _Linear(path, n_inputs, n_outputs)
        elif isinstance(each, nn.Linear):
            yield _Linear(path, each.in_features, each.out_features)


def _mixes_tokens(path: str) -> bool:
    """Return whether a module is part of attention or of a state-space mixer, not of a feed-forward network."""
    return any(word in part.lower() for part in path.split(".") for word in ("att", "mixer", "mamba", "ssm"))


def _inputs(linears: list[_Linear], down: _Linear, width: int, hidden_size: int) -> list[_Linear]:
    """Return the projections from the hidden size to the neurons that lie nearest to the down projection."""
    folder = down.path
    while "." in folder:
        folder = folder.rpartition(".")[0]
        inputs = [
            each
            for each in linears
            if each.path.startswith(f"{folder}.")
            and each != down
            and each.n_inputs == hidden_size
            and each.n_outputs in (width, 2 * width)
        ]
        if inputs:
            return inputs
    return []
