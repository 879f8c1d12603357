"""Whether an expert of a layer holds more neurons of a list than chance gives it: exact tests, compiled by numba.

The null assigns neurons to experts at random within strata. The listed neurons of an expert are then hypergeometric
in each stratum, and strata are independent: their sum has the convolution of the strata's distributions. With one
stratum it is the hypergeometric itself.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LayerTest:
    """How many neurons of each list are in each expert of one layer, beside what chance would give."""

    n_top: NDArray[np.int32]  # entries of each list in each expert [experts, lists]
    n_expected: NDArray[np.float64]  # their mean under the null [experts, lists]
    p_value: NDArray[np.float64]  # probability, under the null, of at least as many [experts, lists]


class Counts(NamedTuple):
    """Lists of a layer's neurons, counted by expert and by stratum."""

    stratum: NDArray[np.int64]  # of each neuron, numbered from 0 without gaps [neurons]
    n_top: NDArray[np.int32]  # entries of each list in each expert [experts, lists]
    n_listed: NDArray[np.int64]  # entries of each list in each stratum [strata, lists]
    n_members: NDArray[np.int64]  # neurons of each stratum in each expert [strata, experts]

    def test(self, p_value: NDArray[np.float64]) -> LayerTest:
        """Return the counts as a test with these p values; the expected counts follow from the strata."""
        n_expected = (self.n_members / self.n_members.sum(axis=1, keepdims=True)).T @ self.n_listed
        return LayerTest(self.n_top, n_expected, p_value)


def count(labels: NDArray[np.int32], membership: NDArray[np.int32], strata: NDArray[np.integer] | None) -> Counts:
    """Count the neurons of lists by expert and by stratum; arguments are as in `exact_test`."""
    codes = np.zeros(len(labels), dtype=np.int64) if strata is None else strata
    stratum = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    n_strata, n_experts, n_lists = int(stratum.max()) + 1, int(labels.max()) + 1, membership.shape[1]
    n_top = np.zeros((n_experts, n_lists), dtype=np.int32)
    np.add.at(n_top, labels, membership)
    n_listed = np.zeros((n_strata, n_lists), dtype=np.int64)
    np.add.at(n_listed, stratum, membership)
    n_members = np.zeros((n_strata, n_experts), dtype=np.int64)
    np.add.at(n_members, (stratum, labels), 1)
    return Counts(stratum, n_top, n_listed, n_members)


def exact_test(
    labels: NDArray[np.int32],  # expert of each neuron, from 0 [neurons]
    membership: NDArray[np.int32],  # 1 where a list holds the neuron, else 0 [neurons, lists]
    strata: NDArray[np.integer] | None = None,  # [neurons]
) -> LayerTest:
    """Test every expert of a layer for every list of distinct neurons.

    The null permutes experts among the neurons of one stratum, or among all neurons of the layer if `strata` is None.
    Raises `ValueError` if a list holds a neuron more than once.
    """
    if len(membership) and membership.max() > 1:
        raise ValueError("a list holds a neuron more than once: only a permutation test can tell")
    counts = count(labels, membership, strata)
    return counts.test(_tail(counts.n_members.sum(axis=1), counts.n_listed, counts.n_members, counts.n_top))


@njit(nogil=True, cache=True)
def _tail(
    n_neurons: NDArray[np.int64],
    n_listed: NDArray[np.int64],
    n_members: NDArray[np.int64],
    observed: NDArray[np.int32],
) -> NDArray[np.float64]:
    """Return the probability of at least `observed` neurons of each list in each expert. [experts, lists]."""
    tails = np.ones(observed.shape)
    n_strata = len(n_neurons)
    for expert, place in np.ndindex(observed.shape):
        if observed[expert, place] == 0:
            continue
        distribution = np.zeros(n_listed[:, place].sum() + 1)
        distribution[0] = 1.0
        reach = 0
        for stratum in range(n_strata):
            size, listed, members = n_neurons[stratum], n_listed[stratum, place], n_members[stratum, expert]
            least, most = max(0, listed + members - size), min(listed, members)
            if most == 0:
                continue
            shares = np.empty(most - least + 1)
            shares[0] = math.exp(
                _log_binomial(listed, least)
                + _log_binomial(size - listed, members - least)
                - _log_binomial(size, members)
            )
            for count in range(least, most):
                odds = (listed - count) * (members - count) / ((count + 1) * (size - listed - members + count + 1))
                shares[count + 1 - least] = shares[count - least] * odds
            # From the top down, so that what is still to be read is not yet overwritten.
            for total in range(reach + most, -1, -1):
                mass = 0.0
                for count in range(max(least, total - reach), min(most, total) + 1):
                    mass += distribution[total - count] * shares[count - least]
                distribution[total] = mass
            reach += most
        tails[expert, place] = min(1.0, distribution[observed[expert, place] :].sum())
    return tails


@njit(nogil=True, cache=True)
def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)
