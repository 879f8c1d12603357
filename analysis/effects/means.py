"""Means over the sources of a study: damage to their own functions that is too little to be seen in each."""

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .comparison import Comparison
from .dose_effects import DoseEffects
from .resampling import Resampling

__all__ = ["mean_rows"]

_PERCENTILES = (2.5, 97.5)
_BLOCK = 1 << 20  # permuted effects held at a time
_SCHEMA = {
    "selection": pl.String,
    "dose": pl.Float64,
    "control": pl.String,
    "n_sources": pl.Int32,
    **dict.fromkeys(("difference", "difference_low", "difference_high", "difference_p_texts"), pl.Float64),
    **dict.fromkeys(("selectivity", "selectivity_low", "selectivity_high", "selectivity_p_texts"), pl.Float64),
    "selectivity_p_functions": pl.Float64,
}


def mean_rows(
    resampling: Resampling, effects: Iterable[DoseEffects], *, n_permutations: int, seed: int
) -> pl.DataFrame:
    """Average differences on target, and selectivities, over the sources that are targets.

    Intervals are percentiles over resamples of the texts, the same for all sources. The p over texts swaps, text by
    text, what was read before and after, in all cells alike. The p over functions gives each source another source's
    function as its own, at random: how often is the selectivity then as large? It takes neurons and texts as they
    are, and asks whether it matters which neurons are whose: some functions are damaged by anything, and some
    neurons damage everything, which a permutation leaves as it is.

    Parameters
    ----------
    resampling
        The study's texts.
    effects
        The effects of each dose.
    n_permutations, seed
        Of the p over functions.

    Returns
    -------
    rows
        The columns of table ``perturbation_means`` from ``selection`` on; own selections alone.
    """
    rows: list[dict[str, object]] = []
    for each in effects:
        everywhere = np.ones((1, each.observed.shape[1]), dtype=np.bool_)
        for comparison, tests in zip(each.comparisons, each.tests, strict=True):
            if not (comparison.is_own and (comparison.target >= 0).any()):
                continue
            row: dict[str, object] = {
                "selection": comparison.selection,
                "dose": each.dose,
                "control": comparison.control,
                "n_sources": int((comparison.target >= 0).sum()),
                "difference_p_texts": float(tests.mean_difference[0]),
                "selectivity_p_texts": float(tests.mean_selectivity[0]),
                "selectivity_p_functions": _p_functions(comparison, each.observed, n_permutations, seed),
            }
            means = _means(comparison, each.observed[None], everywhere)
            spread = _means(comparison, each.resampled, resampling.is_defined)
            for index, name in enumerate(("difference", "selectivity")):
                low, high = np.nanpercentile(spread[index], _PERCENTILES)
                row |= {name: float(means[index][0, 0]), f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    return pl.DataFrame(rows, schema=_SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))


def _means(
    comparison: Comparison, effects: NDArray[np.floating], is_defined: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    differences = comparison.differences(effects)
    return comparison.means(differences, comparison.selectivities(differences, is_defined), is_defined)


def _p_functions(comparison: Comparison, observed: NDArray[np.float64], n_permutations: int, seed: int) -> float:
    """Return the share of assignments of functions to sources with as much selectivity; NaN of a single source."""
    is_target = comparison.target >= 0
    n_sources = int(is_target.sum())
    if n_sources < 2:
        return float("nan")
    # A source's selectivity rises with its difference on target, as the sum over all targets is given.
    matrix = comparison.differences(observed)[is_target][:, comparison.target[is_target]]
    own = float(np.trace(matrix))
    slack = np.finfo(np.float32).eps * float(np.abs(matrix).sum())
    generator = np.random.default_rng((seed, 2))
    n_reached = 0
    block = max(1, _BLOCK // n_sources)
    for start in range(0, n_permutations, block):
        size = min(block, n_permutations - start)
        assigned = generator.permuted(np.tile(np.arange(n_sources), (size, 1)), axis=1)
        n_reached += int(np.count_nonzero(matrix[np.arange(n_sources), assigned].sum(axis=1) >= own - slack))
    return (1 + n_reached) / (1 + n_permutations)
