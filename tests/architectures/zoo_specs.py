"""What a feed-forward layer is described by, before and after its names are filled in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

StackName = Literal["encoder", "decoder"]
Width = str | Callable[[Any], int]
"""A number of neurons: the name of a configuration's field, or a formula of the configuration."""


@dataclass(frozen=True, slots=True)
class FeedForward:
    """One feed-forward network as a table declares it: names within its layer, sizes in terms of the configuration.

    Parameters
    ----------
    source
        The module whose first input is the hidden state that the network reads.
    style
        How the weights make of it a preactivation and, in a gated network, a factor: see `zoo_styles.STYLES`.
    names
        What the style needs: projections, or parameters.
    down
        The projection behind the neurons.
    width
        Neurons; of an expert, if the network has experts.
    activation
        The name of a formula, or the field of the configuration that holds it.
    experts
        How many experts choose tokens; None for a network that reads every token.
    router, routed_by, bias, top_k
        How tokens are routed: a name in `zoo_routers.ROUTERS`, the router's weight, what is added to its scores for the
        choice alone, and how many experts are chosen.
    router_reads
        The module whose first input the router reads, where that is not the source.
    """

    source: str
    style: str
    names: tuple[str, ...]
    down: str
    width: Width = "intermediate_size"
    activation: str = "hidden_act"
    experts: Width | None = None
    router: str = ""
    routed_by: str = ""
    bias: str = ""
    top_k: Width = "num_experts_per_tok"
    router_reads: str = ""


Parts = Sequence[FeedForward]


@dataclass(frozen=True, slots=True)
class Stack:
    """The layers of an encoder or decoder: `path` with the layer's index filled in, `depth` layers.

    `parts` are those of every layer, or a function of configuration and index; `config` is the path to the part of the
    configuration that describes the stack.
    """

    name: StackName
    path: str
    parts: Parts | Callable[[Any, int], Parts]
    depth: Width = "num_hidden_layers"
    config: str = ""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A feed-forward network of one layer, with names from the model's root and sizes as numbers.

    `call` says which of the source's calls in one forward pass is meant: not 0 where a module serves several layers.
    """

    declared: FeedForward
    source: str
    names: tuple[str, ...]
    down: str
    routed_by: str
    bias: str
    router_reads: str
    layer: int
    call: int
    width: int
    n_experts: int | None

    @property
    def n_neurons(self) -> int:
        """Return the neurons of all experts, or of the one network."""
        return self.width * (self.n_experts or 1)


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer that has neurons: its networks in the order of their neurons, routed experts first."""

    stack: StackName
    layer: int
    feed_forwards: tuple[NetworkSpec, ...]
    config: Any

    @property
    def n_neurons(self) -> int:
        """Return the neurons that the configuration implies."""
        return sum(network.n_neurons for network in self.feed_forwards)

    @property
    def n_native_experts(self) -> int | None:
        """Return how many experts the layer routes to; None if it has none."""
        return next((network.n_experts for network in self.feed_forwards if network.n_experts is not None), None)


def number(width: Width, config: Any) -> int:
    """Return a size that the configuration implies."""
    return int(getattr(config, width) if isinstance(width, str) else width(config))


def resolve(stacks: Sequence[Stack], config: Any) -> dict[str, list[LayerSpec]]:
    """Return the layers of each stack; layers without a feed-forward network are left out, and keep their number."""
    return {stack.name: _layers(stack, config) for stack in stacks}


def _layers(stack: Stack, config: Any) -> list[LayerSpec]:
    for step in filter(None, stack.config.split(".")):
        config = getattr(config, step)
    made, calls = [], dict[str, int]()
    for index in range(number(stack.depth, config)):
        parts = stack.parts(config, index) if callable(stack.parts) else stack.parts
        path = stack.path.format(index)
        networks = tuple(_network(part, path, index, config, calls) for part in parts)
        for source in {network.source for network in networks}:
            calls[source] = calls.get(source, 0) + 1
        if networks:
            made.append(LayerSpec(stack.name, index, networks, config))
    return made


def _network(part: FeedForward, path: str, layer: int, config: Any, calls: dict[str, int]) -> NetworkSpec:
    def full(name: str) -> str:
        return f"{path}.{name}".strip(".")

    source = full(part.source)
    return NetworkSpec(
        declared=part,
        source=source,
        names=tuple(full(name) for name in part.names),
        down=full(part.down),
        routed_by=full(part.routed_by),
        bias=full(part.bias),
        router_reads=full(part.router_reads or part.source),
        layer=layer,
        call=calls.get(source, 0),
        width=number(part.width, config),
        n_experts=None if part.experts is None else number(part.experts, config),
    )
