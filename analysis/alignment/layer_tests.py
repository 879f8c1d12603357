"""Whether an expert of a layer holds more neurons of a list than chance gives it: three tests, two compiled by numba.

`layer_test` permutes experts at random among the neurons of a stratum, or of the layer. Exactly: the listed neurons of
an expert are then hypergeometric in each stratum, and strata are independent: their sum has the convolution of the
strata's distributions. With one stratum it is the hypergeometric itself. By permutation, for lists that overlap: a
neuron keeps its place in every top list it is on. So lists that overlap stay overlapping, which a test that permutes
list entries, or takes them as independent draws, does not keep (Zhang et al. 2023 pool them). Only neurons on some list
matter, so each permutation draws labels for those alone: the first steps of a Fisher-Yates shuffle of each stratum's
labels, which is an exact draw without replacement.

`control_tests` compares with lists of control functions, whose labels are chance. Neurons of an expert act alike, so
that what one detects by luck the others do too: over functions that mean nothing the neurons an expert holds vary more
than exchangeable neurons would, and some experts hold more on average. Control lists show both (as Wu and Smyth 2012,
"Camera", inflate the variance of a gene set by its correlation). The count of an expert is taken as beta-binomial, its
mean and variance those of control lists, each estimated on the strict side: means no lower than the free null's,
variances no lower than those of all the layer's experts together.
"""

import math
from typing import NamedTuple, Self

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import NDArray
from scipy import stats

_FEWEST_LISTS = 100  # of the most like prevalence, or all: fewer tell little of a variance
_PRIOR_OF_MEAN = 2  # lists with the mean of the free null that an expert's mean is of, beside its own
_PRIOR_OF_VARIANCE = 10  # lists with the inflation of the layer's experts that an expert's inflation is of
_LEAST_CORRELATION, _MOST_CORRELATION = 1e-6, 0.99  # between the entries of a list that a beta-binomial can have

_Array = NDArray[np.float64]


class LayerTest(NamedTuple):
    """How many neurons of each list are in each expert of one layer, beside what chance would give."""

    n_top: NDArray[np.int32]  # entries of each list in each expert [experts, lists]
    n_expected: _Array  # their mean under the null [experts, lists]
    p_value: _Array  # probability, under the null, of at least as many [experts, lists]
    smallest_p: _Array  # the least that p_value can be, whatever is observed [experts, lists]


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
    Lists taken together may hold a neuron more than once. The observed labels count as one more permutation, so that
    no p value of theirs is below 1 / (n_permutations + 1).
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
    # The chance that an expert holds all of a list that it can, or the list all of it.
    size, of_lists, members = n_neurons[:, None, None], listed[:, None, :], n_members[:, :, None]
    logarithm = stats.hypergeom.logpmf(np.minimum(of_lists, members), size, of_lists, members).sum(axis=0)
    smallest_p[:, ~is_pooled] = np.minimum(1, np.exp(logarithm))
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


@njit(nogil=True, cache=True)
def _tail(
    n_neurons: NDArray[np.int64], n_listed: NDArray[np.int64], n_members: NDArray[np.int64], observed: NDArray[np.int32]
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
            # From the likeliest count: the least may be too unlikely for a number.
            likeliest = min(most, max(least, (listed + 1) * (members + 1) // (size + 2)))
            chosen = _log_binomial(listed, likeliest) + _log_binomial(size - listed, members - likeliest)
            shares[likeliest - least] = math.exp(chosen - _log_binomial(size, members))
            for count in range(likeliest, most):
                odds = (listed - count) * (members - count) / ((count + 1) * (size - listed - members + count + 1))
                shares[count + 1 - least] = shares[count - least] * odds
            for count in range(likeliest, least, -1):
                odds = count * (size - listed - members + count) / ((listed - count + 1) * (members - count + 1))
                shares[count - 1 - least] = shares[count - least] * odds
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
    """Count the permutations in which an expert holds at least as many entries of a list as observed. [experts, lists].

    The listed neuron i, counted over strata, is on the lists ``entry_list[entry_start[i]:entry_start[i + 1]]``.
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


class _Null(NamedTuple):
    """What control lists say of an expert's share of a list, and of its variance over that of independent entries."""

    share: _Array  # [experts]
    inflation: _Array  # [experts]
    n_lists: int

    @classmethod
    def of(cls, counts: _Array, free: _Array, inflation: _Array | float = 1.0) -> Self:
        """Estimate from lists [lists, experts] that vary `inflation` times as much as independent entries, or more."""
        lengths, n_lists = counts.sum(axis=1, keepdims=True), len(counts)
        prior = _PRIOR_OF_MEAN * max(counts.sum() / n_lists, 1.0)
        share = np.maximum(free, (counts.sum(axis=0) + prior * free) / (counts.sum() + prior))
        share = np.minimum(share, 1 - 1e-9)
        squares = ((counts - lengths * share) ** 2).sum(axis=0)
        expected = (lengths * share * (1 - share) * inflation).sum(axis=0)
        together = max(squares.sum() / max(expected.sum(), 1e-9), 1.0)
        prior = _PRIOR_OF_VARIANCE * np.maximum(expected / n_lists, 1e-9)
        own = (squares + together * prior) / (expected + prior)
        # An inflation of its own that is lower is luck more often than not; the mean is known from n_lists alone.
        return cls(share, np.maximum(own, together) * inflation * (1 + 1 / n_lists), n_lists)

    def tails(self, length: int) -> _Array:
        """Return the chance of at least n entries of a list, n from 0 to its length. [experts, length + 1]."""
        correlation = (self.inflation - 1) / max(length - 1, 1)
        odds = (1 / np.clip(correlation, _LEAST_CORRELATION, _MOST_CORRELATION) - 1)[:, None]
        share = self.share[:, None]
        chances = stats.betabinom.pmf(np.arange(length + 1), length, share * odds, (1 - share) * odds)
        # Summed from the far end: small ones stay exact.
        tails: _Array = np.minimum(1, chances[:, ::-1].cumsum(axis=1)[:, ::-1])
        tails[:, 0] = 1
        return tails


def control_tests(
    neurons: pl.DataFrame, names: pl.DataFrame, controls: pl.DataFrame, n_top: _Array, most: NDArray[np.int64]
) -> dict[str, dict[str, pl.Series]]:
    """Return columns of the tests of a layer against each control, as of the rows of experts by lists; NaN if untested.

    `neurons` have their expert, `controls` an entry a row, `names` half, family and function, which is * of a family.
    Of each list in each expert there are `n_top` entries, of at `most` so many [experts, lists].
    """
    experts, sizes = np.unique(neurons["expert"].to_numpy(), return_counts=True)
    tests = {}
    for (control,), of_control in sorted(controls.group_by("control")):
        n_expected, p_value, smallest_p = (np.full(n_top.shape, np.nan) for _ in range(3))
        n_lists = np.zeros(n_top.shape, dtype=np.int64)
        lists = {half: _count(entries, neurons, experts) for (half,), entries in of_control.group_by("half")}
        for place, (half, family, function) in enumerate(names.rows()):
            null = _null(*lists[half], family, function, sizes / sizes.sum()) if half in lists else None
            if null is not None:
                length = int(n_top[:, place].sum())
                tails, expert = null.tails(length), np.arange(len(experts))
                n_expected[:, place] = length * null.share
                p_value[:, place] = tails[expert, n_top[:, place].astype(int)]
                smallest_p[:, place] = tails[expert, most[:, place]]
                n_lists[:, place] = null.n_lists
        columns = {"n_expected": n_expected, "p_value": p_value, "smallest_p": smallest_p, "n_permutations": n_lists}
        tests[control] = {name: pl.Series(name, values.reshape(-1)) for name, values in columns.items()}
    return tests


def _count(entries: pl.DataFrame, neurons: pl.DataFrame, experts: NDArray[np.int32]) -> tuple[pl.DataFrame, _Array]:
    """Return the control lists of entries, a neuron a row, and their counts in each expert [lists, experts]."""
    lists = entries.select("family", "function", "draw", "n_rarer").unique().sort("family", "function", "draw")
    entries = entries.join(lists.with_row_index("list"), on=lists.columns)
    entries = entries.join(neurons.select("neuron", "expert"), on="neuron")
    counts = np.zeros((lists.height, len(experts)))
    np.add.at(counts, (entries["list"].to_numpy(), np.searchsorted(experts, entries["expert"].to_numpy())), 1)
    return lists, counts


def _null(lists: pl.DataFrame, counts: _Array, family: str, function: str, free: _Array) -> _Null | None:
    """Return what control lists say of those of a function, or a family together if it is ``*``; None without any."""
    is_family = function == "*"
    own = (lists["family"].eq(family) & (lists["function"].eq(function) | is_family)).to_numpy()
    if not own.any():
        return None
    if is_family:
        draws, draw = np.unique(lists["draw"].to_numpy()[own], return_inverse=True)
        pooled = np.zeros((len(draws), len(free)))
        np.add.at(pooled, draw, counts[own])
        # The few draws of a family tell how far its lists go together; how far neurons do, its lists one by one.
        return _Null.of(pooled, free, _Null.of(counts[own], free).inflation)
    rarity = np.log(lists["n_rarer"].to_numpy())
    distance = np.abs(rarity - rarity[own][0])
    return _Null.of(counts[distance <= np.sort(distance)[:_FEWEST_LISTS][-1]], free)
