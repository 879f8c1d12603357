"""Contrasts: what the perturbations of a dose did, beside what a control does, observed, resampled and tested."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .comparison import Comparison, Group, Statistics, compare
from .resampling import Resampling


@dataclass(frozen=True, slots=True)
class CellEffect:
    """What one perturbation of a study did."""

    # The function whose neurons were perturbed, ``*`` and ``*`` of a control that all sources share
    source_family: str
    source_function: str
    selection: str  # how they were selected: functional, top or query; or a control: random, matched or nonfunctional
    dose: float  # share of neurons perturbed
    seed: int  # seed of the selection and the perturbation
    sums: NDArray[np.float32]  # the effects on instances, by `Resampling.reduce` [texts, functions, strata]


@dataclass(frozen=True, slots=True)
class Contrast:
    """A comparison at one dose, and the effects it is computed from."""

    dose: float  # share of neurons perturbed
    comparison: Comparison
    targets: Sequence[tuple[str, str]]  # family and function of each function read out
    resampling: Resampling
    effects: NDArray[np.float64]  # mean of each group of sets [1, groups, functions]
    resampled_effects: NDArray[np.float32]  # in each resample, 0 where not defined [resamples, groups, functions]
    p_texts: Statistics  # two-sided p values over texts, without the first axis

    def observed(self) -> Statistics:
        """Return the statistics of the effects: n is 1."""
        return self.comparison.statistics(self.effects)

    def resampled(self) -> Statistics:
        """Return the statistics in each resample of the texts: n is the number of resamples."""
        return self.comparison.statistics(self.resampled_effects, self.resampling.is_defined)


def contrasts(
    resampling: Resampling,
    cells: Sequence[CellEffect],
    targets: Sequence[tuple[str, str]],  # family and function of each function read out
) -> Iterator[Contrast]:
    """Yield the contrasts of a study, dose by dose.

    `cells` are all perturbations of the study; those that differ in nothing but the seed are the sets of one group.
    Own selections are compared with no perturbation (``none``), with those controls there are, and with the ``other``
    sources, if there are at least two: a source counts as one set, the mean over its seeds, but not on the target that
    is its own function, where it is expected to have an effect. Control selections are compared with ``none`` only.
    """
    for dose in sorted({cell.dose for cell in cells}):
        groups = _groups([cell for cell in cells if cell.dose == dose], resampling)
        effects = np.stack([group.effects.mean(axis=0) for group in groups])[None]
        resampled = np.stack([np.nan_to_num(resampling.bootstrap(group.sums)) for group in groups], axis=1)
        comparisons = list(compare(groups, targets))
        for comparison, p_texts in zip(comparisons, _p_texts(comparisons, groups, resampling), strict=True):
            yield Contrast(dose, comparison, targets, resampling, effects, resampled, p_texts)


def _groups(cells: Sequence[CellEffect], resampling: Resampling) -> list[Group]:
    sets: dict[tuple[str, tuple[str, str]], list[CellEffect]] = {}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        sets.setdefault((cell.selection, (cell.source_family, cell.source_function)), []).append(cell)
    return [
        Group(
            selection,
            source,
            np.stack([resampling.effects(cell.sums) for cell in members]),
            np.mean([cell.sums for cell in members], axis=0),
        )
        for (selection, source), members in sets.items()
    ]


def _p_texts(
    comparisons: Sequence[Comparison], groups: Sequence[Group], resampling: Resampling
) -> Iterator[Statistics]:
    """Yield the p values of the comparisons; all are tested at once, as permuted effects are the same for all."""
    contributions = np.stack([resampling.contributions(group.sums) for group in groups], axis=1)

    def statistics(effects: NDArray[np.floating], sign: int) -> list[NDArray[np.floating]]:
        return [values for comparison in comparisons for values in comparison.statistics(effects, sign=sign)]

    p_values = resampling.permutation_test(contributions, statistics)
    n_statistics = len(Statistics._fields)
    for start in range(0, len(p_values), n_statistics):
        yield Statistics(*p_values[start : start + n_statistics])
