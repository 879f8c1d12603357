"""The one place where neurons are read and written while a model runs.

Capture and intervention both go through `tapped`: it shows a visitor the values of each feed-forward network at a
site, and puts back what the visitor returns. A visitor that returns None has only looked: the model computes the
same bits as without it.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...errors import IngestError
from ...schema.vocabulary import Site
from .experts import tap_bank
from .feed_forwards import FeedForward
from .sites import Seen, Visitor, check_site, tap_module, watched_place

__all__ = ["tapped"]


@contextlib.contextmanager
def tapped(module: nn.Module, networks: Sequence[FeedForward], site: Site, visit: Visitor) -> Iterator[None]:
    """Show `visit` every network's values at a site whenever `module` runs inside; write back what it returns.

    Contexts may be nested: each sees the values as those entered before it have left them.

    Parameters
    ----------
    module
        The module that is run, which the networks' paths are relative to.
    networks
        The networks to show.
    site
        ``activation``: what enters the down projection. ``preactivation``: what enters the nonlinearity.
        ``gate``: what leaves it in a gated network.
    visit
        Called with each network and its values, in the order the model runs; of a bank that has a module for each
        expert, once an expert.

    Raises
    ------
    IngestError
        If a network has no such site. While the model runs: if a module runs more often than layers share it, if
        experts are not run as the router chose, or if what is written is not of the shape of what was read.
    """
    for network in networks:
        check_site(network, site)
    calls: dict[int, int] = defaultdict(int)
    with contextlib.ExitStack() as undo:
        undo.callback(module.register_forward_pre_hook(lambda *_: calls.clear()).remove)
        shared: dict[int, list[FeedForward]] = defaultdict(list)
        for network in networks:
            if network.n_experts is not None:
                tap_bank(module, network, site, visit, undo)
            else:
                shared[id(module.get_submodule(watched_place(network, site).path))].append(network)
        for sharing in shared.values():
            undo.callback(_tap_dense(module, sharing, site, visit, calls).remove)
        yield


def _tap_dense(
    module: nn.Module, sharing: list[FeedForward], site: Site, visit: Visitor, calls: dict[int, int]
) -> RemovableHandle:
    """Put a hook on a module that one network runs, or several in turn."""
    by_call = {watched_place(network, site).call: network for network in sharing}
    place = watched_place(sharing[0], site)
    key = id(module.get_submodule(place.path))

    def read(values: torch.Tensor) -> torch.Tensor | None:
        call = calls[key]
        calls[key] += 1
        if call >= place.n_calls:
            raise IngestError(f"{place.path} ran {call + 1} times in one forward pass, {place.n_calls} expected")
        network = by_call.get(call)  # None: a layer that was not asked for
        return None if network is None else visit(network, Seen(values))

    return tap_module(module, sharing[0], site, read)
