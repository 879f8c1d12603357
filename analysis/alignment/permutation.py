"""Whether an expert of a layer holds more neurons of lists that overlap than chance gives it, by permutation.

Under the null an expert is any neurons of the layer (or any of the same strata): its labels are permuted among the
neurons, and a neuron keeps its place in every top list it is on. So lists that overlap stay overlapping, which a
test that permutes list entries, or takes them as independent draws, does not keep (Zhang et al. 2023 pool them).

Only neurons on some list matter, so each permutation draws labels for those alone: the first steps of a
Fisher-Yates shuffle of each stratum's labels, which is an exact draw without replacement, compiled by numba.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .exact import LayerTest, count


def permutation_test(
    labels: NDArray[np.int32],
    membership: NDArray[np.int32],
    strata: NDArray[np.integer] | None = None,
    *,
    n_permutations: int = 100_000,
    seed: int = 0,
) -> LayerTest:
    """Test every expert of a layer for every list of neurons by permutation; a list may hold a neuron repeatedly.

    Arguments are as in `exact_test`, but `membership` is how often a list holds the neuron, which may be more than 1
    where it is several lists taken together. The observed labels count as one more permutation, so that no p value is
    below 1 / (n_permutations + 1).
    """
    counts = count(labels, membership, strata)
    # Stratum by stratum, the neurons on some list first.
    is_listed = membership.sum(axis=1) > 0
    order = np.lexsort((~is_listed, counts.stratum))
    listed = order[is_listed[order]]
    repeats = membership[listed]
    at_least = _count_at_least(
        np.ascontiguousarray(labels[order], dtype=np.int32),
        np.concatenate([[0], np.cumsum(counts.n_members.sum(axis=1))]),
        np.bincount(counts.stratum[listed], minlength=len(counts.n_members)),
        np.concatenate([[0], np.cumsum(repeats.sum(axis=1))]).astype(np.int64),
        np.repeat(np.nonzero(repeats)[1], repeats[np.nonzero(repeats)]).astype(np.int32),
        counts.n_top,
        n_permutations,
        seed,
    )
    return counts.test((1 + at_least) / (1 + n_permutations))


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
