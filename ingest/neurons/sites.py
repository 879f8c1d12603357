"""The sites of a feed-forward network: where in it neurons can be read and written while a model runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...errors import IngestError
from ...schema.vocabulary import Site
from .feed_forwards import FeedForward, Place


@dataclass(frozen=True, slots=True)
class NeuronValues:
    """Values of one network's neurons for some tokens, as the model computes them."""

    # For a dense network as the model lays them out, [texts, tokens, neurons] or [texts * tokens, neurons]. For experts
    # one row for each token and expert it is sent to. [rows, neurons of an expert]
    values: torch.Tensor
    # The token of each row, counted over the batch one text after the other; None for a dense network [rows]
    token: torch.Tensor | None = None
    expert: torch.Tensor | None = None  # the expert of each row; None for a dense network [rows]


# Given a network and its values, returns the values to go on with, or None to leave them as they are.
Visitor = Callable[[FeedForward, NeuronValues], torch.Tensor | None]


def check_site(network: FeedForward, site: Site) -> None:
    """Raise `IngestError` if a network has no such site.

    Only gated networks have the site gate. Where the nonlinearity is a function, not a module, no hook sees it, and the
    activation is the only site.
    """
    if site == "gate" and not network.is_gated:
        raise IngestError(
            f"{network.path} is not gated, so it has no site gate; its activation is the nonlinearity's output already"
        )
    hooked = network.members[0] if network.members else network
    if site != "activation" and network.is_gated and hooked.nonlinearity is None and not network.is_fused:
        raise IngestError(
            f"{network.path} applies its nonlinearity by a function, not a module, so that only the site activation "
            f"can be read, not {site}"
        )


def checked(written: torch.Tensor, values: torch.Tensor, network: FeedForward) -> torch.Tensor:
    """Return what is written in place of `values`; raise `IngestError` if it has another shape or type."""
    if written.shape != values.shape or written.dtype != values.dtype:
        raise IngestError(
            f"{network.path}: {tuple(written.shape)} {written.dtype} cannot be written where {tuple(values.shape)} "
            f"{values.dtype} was read"
        )
    return written


def site_place(network: FeedForward, site: Site) -> Place:
    """Return the module, and which of its calls, that shows a dense network's site."""
    if site == "activation":
        return network.down
    # Where a function is the nonlinearity of a network that is not gated, it sees what the input projection yields.
    return network.nonlinearity or replace(network.down, path=network.input_paths[0])


def hook_network(
    module: nn.Module, network: FeedForward, site: Site, visit: Callable[[torch.Tensor], torch.Tensor | None]
) -> RemovableHandle:
    """Give `visit` the values at a site of a dense network; what it returns, unless None, replaces them."""

    def rewritten(values: torch.Tensor) -> torch.Tensor | None:
        written = visit(values)
        if written is None or checked(written, values, network).stride() == values.stride():
            return written
        # In the memory layout of what was read: kernels round differently with another.
        laid_out = torch.empty_strided(values.shape, values.stride(), dtype=values.dtype, device=values.device)
        return laid_out.copy_(written)

    def before(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        written = rewritten(inputs[0])
        return None if written is None else (written, *inputs[1:])

    hooked = module.get_submodule(site_place(network, site).path)
    if site == "activation" or (site == "preactivation" and network.nonlinearity is not None):
        return hooked.register_forward_pre_hook(before)
    return hooked.register_forward_hook(lambda _, __, output: rewritten(output))
