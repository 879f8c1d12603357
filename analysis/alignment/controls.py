"""Whether an expert holds more of a function's top neurons than of those of control functions, whose labels are chance.

Neurons of an expert act alike, so that what one detects by luck the others do too: over functions that mean nothing the
neurons an expert holds vary more than exchangeable neurons would, and some experts hold more on average. The lists of
control functions show both (as Wu and Smyth 2012, "Camera", inflate the variance of a gene set by its correlation). The
count of an expert is taken as beta-binomial, its mean and variance those of control lists, each estimated on the strict
side: means no lower than the free null's, variances no lower than those of all the layer's experts together.
"""

from typing import NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

_FEWEST_LISTS = 100  # of the most like prevalence, or all: fewer tell little of a variance
_PRIOR_OF_MEAN = 2  # lists with the mean of the free null that an expert's mean is of, beside its own
_PRIOR_OF_VARIANCE = 10  # lists with the inflation of the layer's experts that an expert's inflation is of
_LEAST_CORRELATION, _MOST_CORRELATION = 1e-6, 0.99  # between the entries of a list that a beta-binomial can have

_Array = NDArray[np.float64]


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

    Takes the layer's neurons with their expert, the lists (half, family, function, which is * of a family), the control
    lists, an entry a row, and the entries of each list in each expert, found and possible [experts, lists].
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
    """Return what control lists say of the lists of a function, or of a family's together where it is ``*``.

    `free` is the share of neurons in each expert. None if there is no control list of them.
    """
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
