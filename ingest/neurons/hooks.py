"""The one place where neurons are read and written while a model runs; capture and perturbation both use `hooked`."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import nn

from ...errors import IngestError
from ...schema.vocabulary import Site
from .experts import hook_experts
from .feed_forwards import FeedForward, Layer, Place
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
    """
    networks = [network for layer in layers for network in layer.feed_forwards]
    for network in networks:
        check_site(network, site)
    calls: Counter[Place] = Counter()  # of the modules, in this forward pass

    def visit_call(network: FeedForward, place: Place, values: torch.Tensor) -> torch.Tensor | None:
        call = calls[place]
        calls[place] += 1
        if call >= place.n_calls:
            raise IngestError(f"{place.path} ran {call + 1} times in one forward pass, {place.n_calls} expected")
        return visit(network, NeuronValues(values)) if call == place.call else None

    with contextlib.ExitStack() as undo:
        undo.enter_context(module.register_forward_pre_hook(lambda *_: calls.clear()))
        for network in networks:
            if network.n_experts is not None:
                hook_experts(module, network, site, visit, undo)
            else:
                # For the network's own call alone: layers may share the module that it runs.
                own = partial(visit_call, network, site_place(network, site))
                undo.enter_context(hook_network(module, network, site, own))
        yield
