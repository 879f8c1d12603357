"""Means over the sources of a study: damage to their own functions that is too little to be seen in each."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .comparison import Comparison, compare
from .contrasts import CellDamage, groups_of
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
    resampling: Resampling,
    cells: Sequence[CellDamage],
    targets: Sequence[tuple[str, str]],
    *,
    n_permutations: int,
    seed: int,
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
    cells
        All perturbations of the study.
    targets
        Family and function of each function read out.
    n_permutations, seed
        Of the p over functions.

    Returns
    -------
    rows
        The columns of table ``perturbation_means`` from ``selection`` on; own selections alone.
    """
    rows: list[dict[str, object]] = []
    for dose in sorted({cell.dose for cell in cells}):
        groups = groups_of([cell for cell in cells if cell.dose == dose], resampling)
        comparisons = [each for each in compare(groups, targets) if each.is_own and (each.target >= 0).any()]
        if not comparisons:
            continue
        observed = np.stack([group.effects.mean(axis=0) for group in groups])
        contributions = np.stack([resampling.contributions(group.sums) for group in groups], axis=1)
        resampled = np.stack([np.nan_to_num(resampling.bootstrap(group.sums)) for group in groups], axis=1)

        def contrast(effects: NDArray[np.floating], sign: int, comparisons: list[Comparison] = comparisons) -> list:  # type: ignore[type-arg]
            everywhere = np.ones((1, effects.shape[-1]), dtype=np.bool_)
            return [mean for each in comparisons for mean in _means(each, effects, everywhere, sign)]

        p_texts = resampling.permutation_test(contributions, contrast)
        for place, each in enumerate(comparisons):
            everywhere = np.ones((1, observed.shape[1]), dtype=np.bool_)
            row: dict[str, object] = {
                "selection": groups[each.sources[0]].selection,
                "dose": dose,
                "control": each.control,
                "n_sources": int((each.target >= 0).sum()),
                "selectivity_p_functions": _p_functions(each, observed, n_permutations, seed),
            }
            means = _means(each, observed[None], everywhere)
            spread = _means(each, resampled, resampling.is_defined)
            for index, name in enumerate(("difference", "selectivity")):
                low, high = np.nanpercentile(spread[index], _PERCENTILES)
                row |= {name: float(means[index][0, 0]), f"{name}_low": low, f"{name}_high": high}
                row[f"{name}_p_texts"] = float(p_texts[2 * place + index][0])
            rows.append(row)
    return pl.DataFrame(rows, schema=_SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))


def _means(
    comparison: Comparison, effects: NDArray[np.floating], is_defined: NDArray[np.bool_], sign: int = -1
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return means over sources of differences on target, and of selectivities; both [n, 1]."""
    is_target = comparison.target >= 0
    differences = comparison.differences(effects, sign)
    selectivities = comparison.selectivities(differences, is_defined, sign)[:, is_target]
    target = comparison.target[is_target]
    on_target = differences[:, is_target, target]
    on_target = np.where(np.broadcast_to(is_defined[:, target], on_target.shape), on_target, np.nan)
    return _mean(on_target), _mean(selectivities)


def _mean(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the mean of what is not NaN, NaN where nothing is. [n, sources] to [n, 1]."""
    n_values = np.isfinite(values).sum(axis=1, keepdims=True)
    total: NDArray[np.floating] = np.nansum(values, axis=1, keepdims=True)
    return np.where(n_values > 0, total / np.maximum(n_values, 1), np.nan)


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
