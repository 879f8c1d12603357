"""Writing neurons while a model runs, at the same sites that capture reads."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from ...schema.vocabulary import Site
from .feed_forwards import FeedForward, Layer
from .hooks import tapped
from .sites import Seen

__all__ = ["intervene"]


@contextlib.contextmanager
def intervene(
    module: nn.Module,
    layers: Sequence[Layer],
    *,
    site: Site = "activation",
    change: Callable[[FeedForward, Seen], torch.Tensor],
) -> Iterator[None]:
    """Replace what neurons hold whenever `module` runs inside; the module is itself again afterwards.

    Parameters
    ----------
    module
        The module that is run.
    layers
        Its layers to change.
    site
        What to replace. The gate of experts that are held in one tensor can be read, not replaced.
    change
        Given a network and its values, returns the values to go on with, in the same shape.

    Examples
    --------
    >>> with intervene(module, layers, change=lambda network, seen: seen.values * 0):  # doctest: +SKIP
    ...     logits = module(input_ids)
    """
    networks = [network for layer in layers for network in layer.feed_forwards]
    with tapped(module, networks, site, change):
        yield
