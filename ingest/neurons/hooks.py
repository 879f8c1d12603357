"""The one place where neurons are read and written while a model runs; capture and perturbation both use `hooked`."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...errors import IngestError
from ...schema.vocabulary import Site
from .experts import hook_experts
from .feed_forwards import FeedForward, Layer
from .sites import NeuronValues, Visitor, check_site, hook_network, site_place


@contextlib.contextmanager
def hooked(module: nn.Module, layers: Sequence[Layer], visit: Visitor, *, site: Site = "activation") -> Iterator[None]:
    """Call `visit` with the neurons of `layers` whenever `module`, to which their paths are relative, runs inside.

    `visit` is called with a network and its values, in the order in which the model computes them; where experts are
    modules, once per expert. The model goes on with what it returns, of the same shape. If it returns None, nothing is
    written, and the model computes the same bits as without the hook. The gate of fused experts can be read, not
    written. Contexts may be nested: the inner is given the values that the outer returned. Afterwards the module is as
    before, also after an exception.

    Raise `IngestError` if a network has no such site. While the model runs: if a module runs more often than layers
    share it, if experts are not run as the router chose, or if what is written is not of the shape and type of what
    was read.

    >>> with hooked(module, layers, lambda network, shown: shown.values * 0):  # doctest: +SKIP
    ...     logits = module(input_ids)
    """
    networks = [network for layer in layers for network in layer.feed_forwards]
    for network in networks:
        check_site(network, site)
    calls: dict[str, int] = defaultdict(int)  # of modules in this forward pass
    sharing: dict[nn.Module, dict[int, FeedForward]] = defaultdict(dict)  # networks by the call of a module
    with contextlib.ExitStack() as undo:
        undo.enter_context(module.register_forward_pre_hook(lambda *_: calls.clear()))
        for network in networks:
            if network.n_experts is not None:
                hook_experts(module, network, site, visit, undo)
            else:
                place = site_place(network, site)
                sharing[module.get_submodule(place.path)][place.call] = network
        for by_call in sharing.values():
            undo.enter_context(_hook_dense(module, by_call, site, visit, calls))
        yield


def _hook_dense(
    module: nn.Module, by_call: dict[int, FeedForward], site: Site, visit: Visitor, calls: dict[str, int]
) -> RemovableHandle:
    """Put a hook on a module that one network runs, or several in turn, by the number of the call."""
    first = next(iter(by_call.values()))
    place = site_place(first, site)

    def visit_call(values: torch.Tensor) -> torch.Tensor | None:
        call = calls[place.path]
        calls[place.path] += 1
        if call >= place.n_calls:
            raise IngestError(f"{place.path} ran {call + 1} times in one forward pass, {place.n_calls} expected")
        network = by_call.get(call)  # None: a layer that was not asked for
        return None if network is None else visit(network, NeuronValues(values))

    return hook_network(module, first, site, visit_call)
