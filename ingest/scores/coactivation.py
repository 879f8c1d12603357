"""Which neurons of a layer are active on the same instances: exact counts of pairs, the closest partners kept.

A layer's activity is a matrix of bits, one row a neuron: 8 MB for 3,072 neurons on 20,000 instances, 8 GB for 65,536 on
a million. The instances that two neurons share are the bits set in both rows, counted by words of 64. A neuron's counts
are dropped once its closest partners are known, so that no table of neurons by neurons is ever made.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .scoring import check_finite

Bits = NDArray[np.uint64]
Counts = NDArray[np.int64]
# Neurons whose counts are taken together, so that each word of another neuron serves them all: `_count_both` writes
# them out.
_TILE = 4


@dataclass(frozen=True, slots=True)
class Partners:
    """The closest partners of a layer's neurons."""

    n_active: Counts  # instances on which each neuron is active [neurons]
    partner: NDArray[np.int32]  # its partners, closest first, -1 where there are no more [neurons, partners]
    n_both: Counts  # instances on which both are active, 0 where there is no partner [neurons, partners]


def active_bits(activations: NDArray[np.float32], *, n_highest: int | None = None) -> Bits:
    """Return on which instances neurons are active, as one bit an instance [neurons, instances / 64 rounded up].

    Neurons are active where their pooled activation [neurons, instances] is positive or, given `n_highest`, above their
    (n_highest + 1)-th highest: on n_highest instances, or fewer where there are ties at the cut.
    """
    n_neurons, n_instances = activations.shape
    check_finite(activations)
    if n_highest is None:
        is_active = activations > 0
    else:
        cut = n_instances - n_highest - 1
        is_active = activations > np.partition(activations, cut, axis=1)[:, cut, None]
    packed = np.zeros((n_neurons, -(-n_instances // 64) * 8), dtype=np.uint8)
    packed[:, : -(-n_instances // 8)] = np.packbits(is_active, axis=1)
    return packed.view(np.uint64)


def closest_partners(bits: Bits, n_partners: int, *, n_threads: int = 1) -> Partners:
    """Return each neuron's closest partners among those that are active with it on some instance.

    Closeness is the Jaccard index, n_both / (n_active + n_active_partner - n_both), compared exactly, as fractions. Of
    two equally close partners the one with the lower index comes first. `bits` [neurons, words] are from `active_bits`.
    """
    n_neurons = len(bits)
    shape = (n_neurons, min(n_partners, n_neurons))
    n_active = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    partners = Partners(n_active, partner=np.full(shape, -1, np.int32), n_both=np.zeros(shape, np.int64))

    def run(first: int, last: int) -> None:
        _find_partners(bits, n_active, first, last, partners.partner, partners.n_both)

    bounds = np.linspace(0, n_neurons, 4 * n_threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(run, bounds[:-1], bounds[1:]))
    return partners


@njit(nogil=True, cache=True)
def _find_partners(
    bits: Bits, n_active: Counts, first: int, last: int, partner: NDArray[np.int32], n_both: Counts
) -> None:
    """Fill the rows `first` to `last` of the last two arrays."""
    counts = np.empty((_TILE, len(bits)), dtype=np.int64)  # [tile, neurons]
    for start in range(first, last, _TILE):
        _count_both(bits, start, counts)
        for neuron in range(start, min(start + _TILE, last)):
            _take_closest(neuron, counts[neuron - start], n_active, partner[neuron], n_both[neuron])


@njit(nogil=True, cache=True)
def _count_both(bits: Bits, start: int, counts: Counts) -> None:
    """Count the bits that the neurons of a tile have in common with every neuron."""
    end = len(bits) - 1  # the last neuron again, where there are no four left
    row_a = bits[start]
    row_b = bits[min(start + 1, end)]
    row_c = bits[min(start + 2, end)]
    row_d = bits[min(start + 3, end)]
    for other in range(len(bits)):
        n_a = n_b = n_c = n_d = np.uint64(0)
        row = bits[other]
        for index in range(len(row)):
            word = row[index]
            n_a += _count_ones(row_a[index] & word)
            n_b += _count_ones(row_b[index] & word)
            n_c += _count_ones(row_c[index] & word)
            n_d += _count_ones(row_d[index] & word)
        counts[0, other] = n_a
        counts[1, other] = n_b
        counts[2, other] = n_c
        counts[3, other] = n_d


@njit(nogil=True, cache=True)
def _count_ones(word: np.uint64) -> np.uint64:
    """Count the ones of a word in parallel: in pairs, in fours, in bytes; the product adds up the bytes."""
    # LLVM knows the idiom and takes the processor's own instruction, vectors of them where there are.
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(nogil=True, cache=True)
def _take_closest(neuron: int, counts: Counts, n_active: Counts, partner: NDArray[np.int32], n_both: Counts) -> None:
    """Insert into a sorted list what is closer than its last; fractions are compared by their cross products."""
    n_kept = 0
    for other in range(len(counts)):
        both = counts[other]
        if other == neuron or both == 0:
            continue
        either = n_active[neuron] + n_active[other] - both
        place = n_kept
        while place > 0:
            above = place - 1
            either_above = n_active[neuron] + n_active[partner[above]] - n_both[above]
            if both * either_above <= n_both[above] * either:
                break
            if place < len(partner):
                partner[place], n_both[place] = partner[above], n_both[above]
            place = above
        if place < len(partner):
            partner[place], n_both[place] = other, both
            n_kept = min(n_kept + 1, len(partner))
