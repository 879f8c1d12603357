"""Whether an expert of a layer holds more neurons of a list than chance gives it: two tests, compiled by numba.

Both permute experts at random among the neurons of a stratum, or of the layer. Exactly: the listed neurons of an expert
are then hypergeometric in each stratum, and strata are independent: their sum has the convolution of the strata's
distributions. With one stratum it is the hypergeometric itself.

By permutation, for lists that overlap: a neuron keeps its place in every top list it is on. So lists that overlap stay
overlapping, which a test that permutes list entries, or takes them as independent draws, does not keep (Zhang et al.
2023 pool them). Only neurons on some list matter, so each permutation draws labels for those alone: the first steps of
a Fisher-Yates shuffle of each stratum's labels, which is an exact draw without replacement.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import stats


class LayerTest(NamedTuple):
    """How many neurons of each list are in each expert of one layer, beside what chance would give."""

    n_top: NDArray[np.int32]  # entries of each list in each expert [experts, lists]
    n_expected: NDArray[np.float64]  # their mean under the null [experts, lists]
    p_value: NDArray[np.float64]  # probability, under the null, of at least as many [experts, lists]
    smallest_p: NDArray[np.float64]  # the least that p_value can be, whatever is observed [experts, lists]


def layer_test(
    labels: NDArray[np.int32],  # expert of each neuron, from 0 [neurons]
    membership: NDArray[np.int32],  # how often each list holds the neuron [neurons, lists]
    strata: NDArray[np.integer] | None = None,  # [neurons]
    *,
    is_pooled: NDArray[np.bool_] | None = None,  # which lists are tested by permutation [lists]
    n_permutations: int = 100_000,
    seed: int = 0,
) -> LayerTest:
    """Test every expert of a layer for every list: exactly, or by permutation where a list holds a neuron repeatedly.

    The null permutes experts among the neurons of one stratum, or among all neurons of the layer if `strata` is None.
    By permutation, unless `is_pooled` says otherwise, are those lists that hold a neuron more than once, as several
    lists taken together may. The observed labels count as one more permutation, so that no p value of theirs is below
    1 / (n_permutations + 1).
    """
    is_pooled = membership.max(axis=0, initial=0) > 1 if is_pooled is None else is_pooled
    codes = np.zeros(len(labels), dtype=np.int64) if strata is None else strata
    stratum = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    n_strata, n_experts, n_lists = int(stratum.max()) + 1, int(labels.max()) + 1, membership.shape[1]
    n_top = np.zeros((n_experts, n_lists), dtype=np.int32)
    np.add.at(n_top, labels, membership)
    n_listed = np.zeros((n_strata, n_lists), dtype=np.int64)  # entries of each list in each stratum
    np.add.at(n_listed, stratum, membership)
    n_members = np.zeros((n_strata, n_experts), dtype=np.int64)  # neurons of each stratum in each expert
    np.add.at(n_members, (stratum, labels), 1)
    n_neurons = n_members.sum(axis=1)
    p_value, smallest_p = np.empty(n_top.shape), np.full(n_top.shape, 1 / (1 + n_permutations))
    listed = np.ascontiguousarray(n_listed[:, ~is_pooled])
    p_value[:, ~is_pooled] = _tail(n_neurons, listed, n_members, np.ascontiguousarray(n_top[:, ~is_pooled]))
    smallest_p[:, ~is_pooled] = _chance_of_most(n_neurons, listed, n_members)
    # Stratum by stratum, the neurons on some list first.
    pooled = membership[:, is_pooled]
    is_listed = pooled.sum(axis=1) > 0
    order = np.lexsort((~is_listed, stratum))
    on_list = order[is_listed[order]]
    repeats = pooled[on_list]
    at_least = _count_at_least(
        np.ascontiguousarray(labels[order], dtype=np.int32),
        np.concatenate([[0], np.cumsum(n_neurons)]),
        np.bincount(stratum[on_list], minlength=n_strata),
        np.concatenate([[0], np.cumsum(repeats.sum(axis=1))]).astype(np.int64),
        np.repeat(np.nonzero(repeats)[1], repeats[np.nonzero(repeats)]).astype(np.int32),
        np.ascontiguousarray(n_top[:, is_pooled]),
        n_permutations if is_pooled.any() else 0,
        seed,
    )
    p_value[:, is_pooled] = (1 + at_least) / (1 + n_permutations)
    return LayerTest(n_top, (n_members / n_neurons[:, None]).T @ n_listed, p_value, smallest_p)


def _chance_of_most(
    n_neurons: NDArray[np.int64], n_listed: NDArray[np.int64], n_members: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the chance that an expert holds all of a list that it can, or the list all of it. [experts, lists]."""
    size, listed, members = n_neurons[:, None, None], n_listed[:, None, :], n_members[:, :, None]
    logarithm = stats.hypergeom.logpmf(np.minimum(listed, members), size, listed, members).sum(axis=0)
    smallest: NDArray[np.float64] = np.minimum(1, np.exp(logarithm))
    return smallest


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


@njit(nogil=True, cache=True)
def _count_at_least(
    labels: NDArray[np.int32],  # experts of the neurons, stratum by stratum, listed neurons first [neurons]
    stratum_start: NDArray[np.int64],  # [strata + 1]
    n_listed: NDArray[np.int64],  # listed neurons of a stratum [strata]
    entry_start: NDArray[np.int64],  # [listed neurons + 1]
    entry_list: NDArray[np.int32],  # [entries]
    observed: NDArray[np.int32],  # [experts, lists]
    n_permutations: int,
    seed: int,
) -> NDArray[np.int64]:
    """Count the permutations in which an expert holds at least as many entries of a list as observed.

    The listed neuron i, counted over strata, is on the lists ``entry_list[entry_start[i]:entry_start[i + 1]]``; a list
    named twice counts twice. Returned by expert and list. [experts, lists].
    """
    np.random.seed(seed)
    permuted = labels.copy()
    counts = np.zeros(observed.shape, dtype=np.int32)
    # A count of zero is always reached: only the other cells need a look.
    experts, lists = np.nonzero(observed)
    reached = np.zeros(len(experts), dtype=np.int64)
    for _ in range(n_permutations):
        counts[:] = 0
        listed = 0
        for stratum in range(len(n_listed)):
            start, stop = stratum_start[stratum], stratum_start[stratum + 1]
            for place in range(start, start + n_listed[stratum]):
                other = np.random.randint(place, stop)
                expert = permuted[other]
                permuted[other] = permuted[place]
                permuted[place] = expert
                for entry in range(entry_start[listed], entry_start[listed + 1]):
                    counts[expert, entry_list[entry]] += 1
                listed += 1
        for cell in range(len(experts)):
            reached[cell] += counts[experts[cell], lists[cell]] >= observed[experts[cell], lists[cell]]
    at_least = np.full(observed.shape, n_permutations, dtype=np.int64)
    for cell in range(len(experts)):
        at_least[experts[cell], lists[cell]] = reached[cell]
    return at_least
