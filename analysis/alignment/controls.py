"""Whether an expert holds more of a function's top neurons than of those of control functions, whose labels are chance.

Neurons of an expert act alike, so that what one detects by luck the others do too: over functions that mean nothing the
neurons an expert holds vary more than exchangeable neurons would, and some experts hold more on average. The lists of
control functions show both (as Wu and Smyth 2012, "Camera", inflate the variance of a gene set by its correlation). The
count of an expert is taken as beta-binomial, its mean and variance those of control lists, each estimated on the strict
side: means no lower than the free null's, variances no lower than those of all the layer's experts together.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

_FEWEST_LISTS = 100  # of the most like prevalence, or all: fewer tell little of a variance
_PRIOR_OF_MEAN = 2  # lists with the mean of the free null that an expert's mean is of, beside its own
_PRIOR_OF_VARIANCE = 10  # lists with the inflation of the layer's experts that an expert's inflation is of
_LEAST_CORRELATION, _MOST_CORRELATION = 1e-6, 0.99  # between the entries of a list that a beta-binomial can have

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ControlLists:
    """The top lists of one half for the functions of one control, in one layer: as many for each draw."""

    functions: pl.DataFrame  # family, function, draw and n_rarer, the instances of the rarer class [lists]
    counts: _Array  # entries of each list in each expert [lists, experts]

    @classmethod
    def of(cls, entries: pl.DataFrame, neurons: pl.DataFrame, experts: NDArray[np.int32]) -> "ControlLists":
        """Count the entries of lists, a neuron a row, by the experts of neurons, sorted and numbered as `experts`."""
        functions = entries.select("family", "function", "draw", "n_rarer").unique().sort("family", "function", "draw")
        entries = entries.join(functions.with_row_index("list"), on=functions.columns)
        entries = entries.join(neurons.select("neuron", "expert"), on="neuron")
        counts = np.zeros((functions.height, len(experts)))
        np.add.at(counts, (entries["list"].to_numpy(), np.searchsorted(experts, entries["expert"].to_numpy())), 1)
        return cls(functions, counts)

    def test(self, family: str, function: str, n_top: _Array, most: NDArray[np.int64], free: _Array) -> "_Test | None":
        """Test the entries of a list in each expert, of `most` possible, where `free` is the share of neurons.

        The function is * for the lists of a family's functions together. None if there is no control list of them.
        """
        is_family = function == "*"
        own = (self.functions["family"].eq(family) & (self.functions["function"].eq(function) | is_family)).to_numpy()
        if not own.any():
            return None
        if is_family:
            draws, draw = np.unique(self.functions["draw"].to_numpy()[own], return_inverse=True)
            pooled = np.zeros((len(draws), len(free)))
            np.add.at(pooled, draw, self.counts[own])
            # The few draws of a family tell how far its lists go together; how far neurons do, its lists one by one.
            null = _Null.of(pooled, free, _Null.of(self.counts[own], free).inflation)
        else:
            rarity = np.log(self.functions["n_rarer"].to_numpy())
            distance = np.abs(rarity - rarity[own][0])
            furthest = np.sort(distance)[:_FEWEST_LISTS][-1]
            null = _Null.of(self.counts[distance <= furthest], free)
        return null.test(n_top, most)


@dataclass(frozen=True, slots=True)
class _Test:
    """The test of one list in each expert of a layer: all [experts] but for the number of control lists."""

    n_expected: _Array
    p_value: _Array
    smallest_p: _Array
    n_lists: int


@dataclass(frozen=True, slots=True)
class _Null:
    """What control lists say of an expert's share of a list, and of its variance over that of independent entries."""

    share: _Array  # [experts]
    inflation: _Array  # [experts]
    n_lists: int

    @classmethod
    def of(cls, counts: _Array, free: _Array, inflation: _Array | float = 1.0) -> "_Null":
        """Estimate from lists [lists, experts] that vary `inflation` times as much as independent entries, or more."""
        length, n_lists = max(counts.sum() / len(counts), 1.0), len(counts)
        prior = _PRIOR_OF_MEAN * length
        share = np.maximum(free, (counts.sum(axis=0) + prior * free) / (counts.sum() + prior))
        share = np.minimum(share, 1 - 1e-9)
        variance = counts.sum(axis=1, keepdims=True) * share * (1 - share) * inflation
        squares, expected = (
            ((counts - counts.sum(axis=1, keepdims=True) * share) ** 2).sum(axis=0),
            variance.sum(axis=0),
        )
        together = max(squares.sum() / max(expected.sum(), 1e-9), 1.0)
        prior = _PRIOR_OF_VARIANCE * np.maximum(expected / n_lists, 1e-9)
        own = (squares + together * prior) / (expected + prior)
        # An inflation of its own that is lower is luck more often than not; the mean is known from n_lists alone.
        return cls(share, np.maximum(own, together) * inflation * (1 + 1 / n_lists), n_lists)

    def test(self, n_top: _Array, most: NDArray[np.int64]) -> _Test:
        """Return the tails of the beta-binomial with these moments, at `n_top` entries and at the most possible."""
        length = int(n_top.sum())
        correlation = (self.inflation - 1) / max(length - 1, 1)
        odds = (1 / np.clip(correlation, _LEAST_CORRELATION, _MOST_CORRELATION) - 1)[:, None]
        share = self.share[:, None]
        chances = stats.betabinom.pmf(np.arange(length + 1), length, share * odds, (1 - share) * odds)
        tails = np.minimum(
            1, chances[:, ::-1].cumsum(axis=1)[:, ::-1]
        )  # summed from the far end: small ones stay exact
        tails[:, 0] = 1
        p_value, smallest_p = (np.take_along_axis(tails, at.astype(int)[:, None], axis=1)[:, 0] for at in (n_top, most))
        return _Test(length * self.share, p_value, smallest_p, self.n_lists)


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
        by_half = {half: ControlLists.of(rows, neurons, experts) for (half,), rows in of_control.group_by("half")}
        n_expected, p_value, smallest_p = (np.full(n_top.shape, np.nan) for _ in range(3))
        n_lists = np.zeros(n_top.shape, dtype=np.int64)
        for place, (half, family, function) in enumerate(names.rows()):
            found = n_top[:, place], most[:, place], sizes / sizes.sum()
            test = by_half[half].test(family, function, *found) if half in by_half else None
            if test:
                n_expected[:, place], p_value[:, place], smallest_p[:, place] = (
                    test.n_expected,
                    test.p_value,
                    test.smallest_p,
                )
                n_lists[:, place] = test.n_lists
        columns = {"n_expected": n_expected, "p_value": p_value, "smallest_p": smallest_p, "n_permutations": n_lists}
        tests[control] = {name: pl.Series(name, values.reshape(-1)) for name, values in columns.items()}
    return tests
