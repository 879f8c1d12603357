"""The feed-forward networks of a model: where their neurons are, and how they are numbered."""

from dataclasses import dataclass
from typing import Literal

Stack = Literal["encoder", "decoder"]


@dataclass(frozen=True, slots=True)
class Place:
    """One call of a module in a forward pass: layers may share a module, and each then has a call of its own."""

    path: str  # path of the module in the model
    call: int = 0  # number of the call, 0 the first
    n_calls: int = 1  # how often the module is called in a forward pass


@dataclass(frozen=True, slots=True)
class FeedForward:
    """One feed-forward network of a layer, or all routed experts of a layer together."""

    down: Place  # the down projection, whose input is the neurons' activations; the module that holds all experts
    n_neurons: int  # number of neurons; for experts, over all of them
    activation_function: str  # name of the nonlinearity in the configuration
    is_gated: bool  # whether the activation is act(gate) * up
    n_experts: int | None = None  # number of experts; None for a dense network
    members: tuple["FeedForward", ...] = ()  # the network of each expert; empty where one tensor holds them (fused)
    input_paths: tuple[str, ...] = ()  # of the projections from the hidden state to the neurons; empty for experts
    nonlinearity: Place | None = None  # the module that applies the nonlinearity; None where it is a function
    is_time_first: bool = False  # whether its tensors are [tokens, texts, ...] instead of [texts, tokens, ...]
    pads_to: int = 0  # the model itself pads texts at their ends to a multiple of this many tokens; 0 if it does not

    @property
    def path(self) -> str:
        """Path of the down projection, or of the module of experts, by which the network is named."""
        return self.down.path

    @property
    def width(self) -> int:
        """Number of neurons of the network, or of one expert."""
        return self.n_neurons // (self.n_experts or 1)

    @property
    def is_fused(self) -> bool:
        """Whether one tensor holds the weights of all experts."""
        return self.n_experts is not None and not self.members


@dataclass(frozen=True, slots=True)
class Layer:
    """The neurons of one block of a model."""

    stack: Stack  # encoder or decoder
    layer: int  # number of the block within its stack, 0 next to the embeddings
    # Its networks in the order of their neurons: the routed experts first, then networks that every token passes
    feed_forwards: tuple[FeedForward, ...]

    @property
    def n_neurons(self) -> int:
        """Number of neurons over all networks and experts."""
        return sum(network.n_neurons for network in self.feed_forwards)

    @property
    def n_native_experts(self) -> int:
        """Number of routed experts, 0 in a dense layer."""
        return self.feed_forwards[0].n_experts or 0

    @property
    def experts(self) -> FeedForward | None:
        """The routed experts, whose neurons are the layer's first; None in a dense layer."""
        first = self.feed_forwards[0]
        return None if first.n_experts is None else first
