"""The sites of a feed-forward network: what of its neurons can be read, and written, while a model runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...errors import IngestError
from ...schema.vocabulary import Site
from .feed_forwards import FeedForward, Place

__all__ = ["Reader", "Seen", "Visitor", "check_site", "checked", "tap_module", "watched_place"]


@dataclass(frozen=True, slots=True)
class Seen:
    """Values of one network's neurons for some tokens.

    Parameters
    ----------
    values
        Of a dense network as the model lays them out, [texts, tokens, neurons] or [texts * tokens, neurons]; of a
        bank of experts, one row a token and expert. [rows, neurons of an expert]
    token
        The row's token among all of the batch, texts one after the other; None of a dense network. [rows]
    expert
        The row's expert, likewise. [rows]
    """

    values: torch.Tensor
    token: torch.Tensor | None = None
    expert: torch.Tensor | None = None


Visitor = Callable[[FeedForward, Seen], torch.Tensor | None]
Reader = Callable[[torch.Tensor], torch.Tensor | None]


def check_site(network: FeedForward, site: Site) -> None:
    """Refuse a site that a network does not have.

    Raises
    ------
    IngestError
        If it is not gated and the gate is asked for, or if its nonlinearity is not a module that can be watched.
    """
    if site == "gate" and not network.is_gated:
        raise IngestError(
            f"{network.path} is not gated, so it has no site gate; its activation is the nonlinearity's output already"
        )
    is_fused = network.n_experts is not None and not network.members
    watched = network.members[0] if network.members else network
    if site != "activation" and network.is_gated and watched.nonlinearity is None and not is_fused:
        raise IngestError(
            f"{network.path} applies its nonlinearity by a function, not a module, so that only the site activation "
            f"can be read, not {site}"
        )


def checked(written: torch.Tensor, values: torch.Tensor, network: FeedForward) -> torch.Tensor:
    """Refuse to write back what is not of the shape and type of what was read."""
    if written.shape != values.shape or written.dtype != values.dtype:
        raise IngestError(
            f"{network.path}: {tuple(written.shape)} {written.dtype} cannot be written where {tuple(values.shape)} "
            f"{values.dtype} was read"
        )
    return written


def watched_place(network: FeedForward, site: Site) -> Place:
    """Return the module at which a dense network's site is, and which of its calls."""
    if site == "activation":
        return network.down
    # Where a function is the nonlinearity of a network that is not gated, it sees what the input projection yields.
    return network.nonlinearity or replace(network.down, path=network.input_paths[0])


def tap_module(module: nn.Module, network: FeedForward, site: Site, read: Reader) -> RemovableHandle:
    """Put a hook where a dense network's site is; what `read` returns, unless None, replaces the values."""

    def rewritten(values: torch.Tensor) -> torch.Tensor | None:
        written = read(values)
        if written is None or checked(written, values, network).stride() == values.stride():
            return written
        # In the memory layout of what was read: kernels round differently with another.
        laid_out = torch.empty_strided(values.shape, values.stride(), dtype=values.dtype, device=values.device)
        return laid_out.copy_(written)

    def before(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        written = rewritten(inputs[0])
        return None if written is None else (written, *inputs[1:])

    def after(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor | None:
        return rewritten(output)

    watched = module.get_submodule(watched_place(network, site).path)
    if site == "activation" or (site == "preactivation" and network.nonlinearity is not None):
        return watched.register_forward_pre_hook(before)
    return watched.register_forward_hook(after)
