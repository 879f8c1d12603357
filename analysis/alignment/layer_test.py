"""Tests of whether an expert of a layer holds more neurons of a list than experts dealt at random do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .exact import stratified_tail
from .permutation import count_at_least

__all__ = ["LayerTest", "exact_test", "permutation_test"]


@dataclass(frozen=True, slots=True)
class LayerTest:
    """Entries of lists in the experts of one layer, and what chance would give.

    Parameters
    ----------
    n_top
        Entries found. [experts, lists]
    n_expected
        Their mean if neurons were dealt to experts at random. [experts, lists]
    p_value
        Probability of at least as many. [experts, lists]
    """

    n_top: NDArray[np.int32]
    n_expected: NDArray[np.float64]
    p_value: NDArray[np.float64]


def exact_test(
    labels: NDArray[np.int32], membership: NDArray[np.int32], strata: NDArray[np.integer] | None = None
) -> LayerTest:
    """Test each expert of a layer for each list of distinct neurons: exactly, by hypergeometric distributions.

    Parameters
    ----------
    labels
        Expert of each neuron, 0 to experts - 1. [neurons]
    membership
        Whether each list holds the neuron, 0 or 1. [neurons, lists]
    strata
        Neurons are dealt anew among those of equal code only; None for all. [neurons]
    """
    if len(membership) and membership.max() > 1:
        raise ValueError("a list holds a neuron more than once: only a permutation test can tell")
    stratum = _codes(labels, strata)
    n_top, n_listed, n_members = _counts(labels, membership, stratum)
    p_value = stratified_tail(n_members.sum(axis=1), n_listed, n_members, n_top)
    return LayerTest(n_top, _expected(n_listed, n_members), p_value)


def permutation_test(
    labels: NDArray[np.int32],
    membership: NDArray[np.int32],
    strata: NDArray[np.integer] | None = None,
    *,
    n_permutations: int = 100_000,
    seed: int = 0,
) -> LayerTest:
    """Test each expert of a layer for each list of neurons, which may be several taken together, by permutation.

    Parameters
    ----------
    labels
        Expert of each neuron, 0 to experts - 1. [neurons]
    membership
        How often each list holds the neuron: 0 or 1, or more in lists taken together. [neurons, lists]
    strata
        Experts are permuted among neurons of equal code only; None for all. [neurons]
    n_permutations
        Permutations; the observed one counts as one more, so that no p-value is below 1 / (n_permutations + 1).
    seed
        Seed of the permutations.
    """
    stratum = _codes(labels, strata)
    n_top, n_listed, n_members = _counts(labels, membership, stratum)
    # Stratum by stratum, the neurons on some list first.
    is_listed = membership.sum(axis=1) > 0
    order = np.lexsort((~is_listed, stratum))
    listed = order[is_listed[order]]
    repeats = membership[listed]
    at_least = count_at_least(
        np.ascontiguousarray(labels[order], dtype=np.int32),
        np.concatenate([[0], np.cumsum(n_members.sum(axis=1))]),
        np.bincount(stratum[listed], minlength=len(n_members)),
        np.concatenate([[0], np.cumsum(repeats.sum(axis=1))]).astype(np.int64),
        np.repeat(np.nonzero(repeats)[1], repeats[np.nonzero(repeats)]).astype(np.int32),
        n_top,
        n_permutations,
        seed,
    )
    return LayerTest(n_top, _expected(n_listed, n_members), (1 + at_least) / (1 + n_permutations))


def _codes(labels: NDArray[np.int32], strata: NDArray[np.integer] | None) -> NDArray[np.int64]:
    """Return the stratum of each neuron, numbered from 0 without gaps."""
    if strata is None:
        return np.zeros(len(labels), dtype=np.int64)
    codes: NDArray[np.int64] = np.unique(strata, return_inverse=True)[1].astype(np.int64)
    return codes


def _counts(
    labels: NDArray[np.int32], membership: NDArray[np.int32], stratum: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Return entries by expert [experts, lists], entries by stratum [strata, lists] and neurons [strata, experts]."""
    n_strata, n_experts, n_lists = int(stratum.max()) + 1, int(labels.max()) + 1, membership.shape[1]
    n_top = np.zeros((n_experts, n_lists), dtype=np.int32)
    np.add.at(n_top, labels, membership)
    n_listed = np.zeros((n_strata, n_lists), dtype=np.int64)
    np.add.at(n_listed, stratum, membership)
    n_members = np.zeros((n_strata, n_experts), dtype=np.int64)
    np.add.at(n_members, (stratum, labels), 1)
    return n_top, n_listed, n_members


def _expected(n_listed: NDArray[np.int64], n_members: NDArray[np.int64]) -> NDArray[np.float64]:
    expected: NDArray[np.float64] = (n_members / n_members.sum(axis=1, keepdims=True)).T @ n_listed
    return expected
