"""What the perturbations of one dose did: effects, resampled and tested once for all that is said of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .comparison import Comparison, Group, compare
from .resampling import Resampling

__all__ = ["CellDamage", "DoseEffects", "TextTests", "dose_effects"]


@dataclass(frozen=True, slots=True)
class CellDamage:
    """What one perturbation of a study did.

    Parameters
    ----------
    source_family, source_function
        The function whose neurons were perturbed, ``*`` and ``*`` of a control that all sources share.
    selection
        How they were chosen: functional, top or query; or a control: random, matched or nonfunctional.
    dose
        Share of neurons perturbed.
    seed
        Seed of the selection and the perturbation.
    sums
        The damage, by `Resampling.reduce`. [texts, functions, strata]
    """

    source_family: str
    source_function: str
    selection: str
    dose: float
    seed: int
    sums: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TextTests:
    """p values over texts of one comparison, two-sided.

    Parameters
    ----------
    differences
        [sources, functions]
    selectivities
        [sources]
    mean_difference, mean_selectivity
        Of their means over the sources that are targets. [1] each
    """

    differences: NDArray[np.float64]
    selectivities: NDArray[np.float64]
    mean_difference: NDArray[np.float64]
    mean_selectivity: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DoseEffects:
    """The effects of all perturbations of one dose.

    Parameters
    ----------
    dose
        Share of neurons perturbed.
    comparisons
        The sources of each selection beside each control.
    observed
        Mean effects of each group of sets. [groups, functions]
    resampled
        The same in each resample of the texts, 0 where it is not defined. [resamples, groups, functions]
    tests
        p values over texts, one a comparison.
    """

    dose: float
    comparisons: Sequence[Comparison]
    observed: NDArray[np.float64]
    resampled: NDArray[np.float32]
    tests: Sequence[TextTests]


def dose_effects(
    resampling: Resampling, cells: Sequence[CellDamage], targets: Sequence[tuple[str, str]]
) -> Iterator[DoseEffects]:
    """Yield the effects of each dose.

    Parameters
    ----------
    resampling
        The study's texts.
    cells
        All perturbations of the study. Those that differ in nothing but the seed are the sets of one selection.
    targets
        Family and function of each function read out.
    """
    for dose in sorted({cell.dose for cell in cells}):
        groups = _groups([cell for cell in cells if cell.dose == dose], resampling)
        comparisons = list(compare(groups, targets))
        contributions = np.stack([resampling.contributions(group.sums) for group in groups], axis=1)
        yield DoseEffects(
            dose=dose,
            comparisons=comparisons,
            observed=np.stack([group.effects.mean(axis=0) for group in groups]),
            resampled=np.stack([np.nan_to_num(resampling.bootstrap(group.sums)) for group in groups], axis=1),
            tests=list(_tests(comparisons, contributions, resampling)),
        )


def _groups(cells: Sequence[CellDamage], resampling: Resampling) -> list[Group]:
    """Return the selections of a dose, each with all its sets."""
    sets: dict[tuple[str, tuple[str, str]], list[CellDamage]] = {}
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


def _tests(
    comparisons: Sequence[Comparison], contributions: NDArray[np.float32], resampling: Resampling
) -> Iterator[TextTests]:
    everywhere = np.ones((1, contributions.shape[2]), dtype=np.bool_)

    def contrast(effects: NDArray[np.floating], sign: int) -> list[NDArray[np.floating]]:
        found = []
        for comparison in comparisons:
            differences = comparison.differences(effects, sign)
            selectivities = comparison.selectivities(differences, everywhere, sign)
            found += [differences, selectivities, *comparison.means(differences, selectivities, everywhere)]
        return found

    p_values = resampling.permutation_test(contributions, contrast)
    for place in range(0, len(p_values), 4):
        yield TextTests(*p_values[place : place + 4])
