"""Contrasts: what one function's neurons do to each function, beside what a control does."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...schema.tables import table
from .comparison import Comparison
from .dose_effects import DoseEffects, TextTests
from .resampling import Resampling
from .set_sample import sample

__all__ = ["contrast_rows"]

_INTERVAL = (0.025, 0.975)
_TYPES = {"string": pl.String, "bool": pl.Boolean, "int32": pl.Int32, "float64": pl.Float64}
_COLUMNS = table("perturbation_contrasts").columns
_SCHEMA: dict[str, type[pl.DataType]] = {
    column.name: _TYPES[column.type]
    for column in _COLUMNS[[column.name for column in _COLUMNS].index("source_family") :]
}


def contrast_rows(
    resampling: Resampling, effects: Iterable[DoseEffects], targets: Sequence[tuple[str, str]]
) -> pl.DataFrame:
    """Contrast the sources of a study with its controls at the same dose.

    Own selections are contrasted with no perturbation (``none``), with those controls there are, and with the ``other``
    sources, if there are at least two: each counts as one set, the mean over its seeds, but not on the target that is
    its own function, where it is expected to do damage. Control selections are contrasted with ``none`` only.

    Intervals are percentiles of the difference over resamples of the texts. Where there are two control sets or more,
    each resample also moves the mean of the control by a draw of Student's distribution with k - 1 degrees of freedom
    times s / sqrt(k), s being the standard deviation of the k sets' effects: sets resampled with replacement are too
    narrow by sqrt((k - 1) / k), and for the few sets of a study by more, as their spread is itself uncertain.

    Parameters
    ----------
    resampling
        The study's texts.
    effects
        The effects of each dose.
    targets
        Family and function of each function read out.

    Returns
    -------
    rows
        The columns of table ``perturbation_contrasts`` from ``source_family`` on, sorted by its grain.
    """
    frames = [pl.DataFrame(schema=_SCHEMA)]
    for each in effects:
        for comparison, tests in zip(each.comparisons, each.tests, strict=True):
            measures = _measures(comparison, each.observed, each.resampled, tests, resampling)
            frames.append(_frame(comparison, each.dose, targets, measures))
    grain = [name for name in table("perturbation_contrasts").grain if name in _SCHEMA]
    return pl.concat(frames).sort(grain)


def _measures(
    comparison: Comparison,
    observed: NDArray[np.float64],
    resampled: NDArray[np.float32],
    tests: TextTests,
    resampling: Resampling,
) -> dict[str, NDArray[np.floating] | NDArray[np.integer]]:
    """Return what is said of each source [sources, functions], and of its selectivity [sources]; NaN for NULL."""
    difference = comparison.differences(observed)
    everywhere = np.ones((1, difference.shape[1]), dtype=np.bool_)
    selectivity = comparison.selectivities(difference[None], everywhere)[0]
    effect = observed[comparison.sources]

    n_sets, n_selective = (np.zeros(shape, dtype=np.int64) for shape in (difference.shape, len(difference)))
    error, selective_error = (np.zeros(shape) for shape in (difference.shape, len(difference)))
    p_sets, selective_p_sets = (np.full(shape, np.nan) for shape in (difference.shape, len(difference)))
    for place in range(len(difference)):
        sets = comparison.control_sets(place)
        drawn = sample(sets)
        n_sets[place], error[place], p_sets[place] = drawn.n_sets, drawn.standard_error, drawn.p_value(effect[place])
        # With a single set on some target, the mean there would be the set itself.
        if np.isfinite(selectivity[place]) and n_sets[place].min() > 1:
            drawn = sample(comparison.set_selectivities(place), scale=np.nanmax(np.abs(sets)))
            n_selective[place], selective_error[place] = drawn.n_sets, drawn.standard_error
            selective_p_sets[place] = drawn.p_value(selectivity[place])

    differences = comparison.differences(resampled)
    selectivities = comparison.selectivities(differences, resampling.is_defined)
    differences[~np.broadcast_to(resampling.is_defined[:, None], differences.shape)] = np.nan
    difference_low, difference_high = _interval(differences, error, n_sets, resampling)
    selectivity_low, selectivity_high = _interval(selectivities, selective_error, n_selective, resampling)
    return {
        "n_control_sets": n_sets,
        "effect": effect,
        "control_effect": np.broadcast_to(comparison.control_effects(observed), effect.shape),
        "difference": difference,
        "difference_low": difference_low,
        "difference_high": difference_high,
        "p_texts": tests.differences,
        "p_sets": p_sets,
        "selectivity": selectivity,
        "selectivity_low": selectivity_low,
        "selectivity_high": selectivity_high,
        "selectivity_p_texts": np.where(np.isfinite(selectivity), tests.selectivities, np.nan),
        "selectivity_p_sets": selective_p_sets,
    }


def _interval(
    values: NDArray[np.floating], error: NDArray[np.float64], n_sets: NDArray[np.int64], resampling: Resampling
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of intervals of resampled values [resamples, ...], whose control sets have errors [...]."""
    moved = values.astype(np.float64)
    for count in np.unique(n_sets[n_sets > 1]):
        is_of = n_sets == count
        moved[:, is_of] += resampling.student(int(count) - 1)[:, None] * error[is_of]
    # Linear between order statistics, of the resamples that say something of the function.
    ordered = np.sort(moved, axis=0)
    last = np.maximum(np.isfinite(moved).sum(axis=0) - 1, 0)
    ends = []
    for probability in _INTERVAL:
        below = np.floor(probability * last).astype(np.int64)
        above = np.minimum(below + 1, last)
        low, high = (np.take_along_axis(ordered, place[None], axis=0)[0] for place in (below, above))
        ends.append(low + (probability * last - below) * (high - low))
    return ends[0], ends[1]


def _frame(
    comparison: Comparison,
    dose: float,
    targets: Sequence[tuple[str, str]],
    measures: Mapping[str, NDArray[np.floating] | NDArray[np.integer]],
) -> pl.DataFrame:
    """Return the rows of a comparison, target by target within each source."""
    is_on = comparison.is_on_target
    groups = [comparison.groups[place] for place in comparison.sources]
    n_targets = len(targets)
    columns: dict[str, object] = {
        "source_family": np.repeat([group.source[0] for group in groups], n_targets),
        "source_function": np.repeat([group.source[1] for group in groups], n_targets),
        "selection": np.repeat([group.selection for group in groups], n_targets),
        "dose": np.full(is_on.size, dose),
        "control": np.full(is_on.size, comparison.control),
        "target_family": np.tile([family for family, _ in targets], len(groups)),
        "target_function": np.tile([function for _, function in targets], len(groups)),
        "is_on_target": is_on.reshape(-1),
        "n_sets": np.repeat([len(group.effects) for group in groups], n_targets),
    }
    for name, values in measures.items():
        everywhere = values if values.ndim > 1 else np.where(is_on, values[:, None], np.nan)
        columns[name] = everywhere.reshape(-1)
    return (
        pl.DataFrame(columns).cast(pl.Schema(_SCHEMA)).select(*_SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))
    )
