"""Permutations of labels at random: the strata that labels stay within, and the seed of each layer."""

import numpy as np
from numpy.typing import NDArray

_STACKS = ("encoder", "decoder")


def layer_seed(seed: int, stack: str, layer: int) -> int:
    """Return the seed of one layer, 32 bits: what is drawn for a layer does not depend on which others there are."""
    return int(np.random.SeedSequence([seed, _STACKS.index(stack), layer]).generate_state(1)[0])


def strata(norm: NDArray[np.floating], firing_rate: NDArray[np.floating], n_bins: int = 5) -> NDArray[np.int64]:
    """Return the stratum of each neuron of a layer: its quantile bin of norm, crossed with its bin of firing rate.

    Norms are L2 norms of input weights and rates are shares of instances [neurons]; strata are numbers from 0 to
    ``n_bins ** 2 - 1`` [neurons]. Equal values share a bin, so that the many neurons that always fire, or never, are
    one bin of their own.
    """
    return _bins(norm, n_bins) * n_bins + _bins(firing_rate, n_bins)


def permute_within(
    labels: NDArray[np.integer], strata: NDArray[np.integer], generator: np.random.Generator
) -> NDArray[np.integer]:
    """Return the labels of a layer's neurons, permuted at random among the neurons of each stratum. [neurons]."""
    members = np.argsort(strata, kind="stable")
    shuffled = np.lexsort((generator.random(len(labels)), strata))  # the same strata in the same places
    permuted = np.empty_like(labels)
    permuted[members] = labels[shuffled]
    return permuted


def _bins(values: NDArray[np.floating], n_bins: int) -> NDArray[np.int64]:
    inner_edges = np.quantile(values, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(inner_edges, values, side="left").astype(np.int64)
