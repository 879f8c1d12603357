"""The feed-forward networks of a model: where their neurons are, and how they are numbered."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["FeedForward", "Layer", "Place", "Stack"]

Stack = Literal["encoder", "decoder"]


@dataclass(frozen=True, slots=True)
class Place:
    """A module, and which of its calls in a forward pass is meant: layers may share weights or a nonlinearity.

    Parameters
    ----------
    path
        The module.
    call
        The call, 0 the first.
    n_calls
        How often it runs in a forward pass.
    """

    path: str
    call: int = 0
    n_calls: int = 1


@dataclass(frozen=True, slots=True)
class FeedForward:
    """One feed-forward network, or one bank of experts: a run of neurons of a layer.

    Parameters
    ----------
    down
        The down projection, whose input is the neurons' activations; of a bank, the module that holds the experts.
    n_neurons
        Width, over all experts.
    n_experts
        Experts of a bank, None of a dense network.
    members
        The experts of a bank that has one module for each; empty where all are held in one tensor.
    input_paths
        The projections that lead to the neurons; empty of a bank.
    nonlinearity
        The module that applies the nonlinearity; None where a function does.
    activation_function
        The nonlinearity, as the configuration names it.
    is_gated
        Whether the activation is act(gate) * up.
    is_time_first
        Whether its tensors are [tokens, texts, ...].
    pads_to
        Multiple to which the model lengthens texts by itself, at their ends; 0 if it does not.
    """

    down: Place
    n_neurons: int
    n_experts: int | None
    members: tuple["FeedForward", ...]
    input_paths: tuple[str, ...]
    nonlinearity: Place | None
    activation_function: str
    is_gated: bool
    is_time_first: bool = False
    pads_to: int = 0

    @property
    def path(self) -> str:
        """The module the network is named by."""
        return self.down.path

    @property
    def width(self) -> int:
        """Neurons of the network, or of each of its experts."""
        return self.n_neurons // (self.n_experts or 1)


@dataclass(frozen=True, slots=True)
class Layer:
    """The neurons of one block.

    Parameters
    ----------
    stack
        encoder or decoder.
    layer
        0 at the embedding side, within its stack.
    feed_forwards
        Its networks in the order of their neurons: the routed experts before what every token passes.
    """

    stack: Stack
    layer: int
    feed_forwards: tuple[FeedForward, ...]

    @property
    def n_neurons(self) -> int:
        """Neurons over all networks and experts."""
        return sum(each.n_neurons for each in self.feed_forwards)

    @property
    def n_native_experts(self) -> int:
        """Routed experts, 0 in a dense layer."""
        return self.feed_forwards[0].n_experts or 0

    @property
    def bank(self) -> FeedForward | None:
        """The routed experts, None in a dense layer. They are the layer's first neurons."""
        first = self.feed_forwards[0]
        return None if first.n_experts is None else first
