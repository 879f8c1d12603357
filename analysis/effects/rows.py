"""Contrasts as rows of tables: each source on each target, and means over the sources of a study."""

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from ...schema.conformance import arrow_schema
from ...schema.tables import table
from ..perturbation.settings import Functions
from .contrast import CONTROLS, Contrast, Statistics
from .resampling import Resampling, finite_mean

_INTERVAL = (0.025, 0.975)
_BLOCK = 1 << 20  # permuted effects in memory at a time
_Floats = NDArray[np.float64]
_Counts = NDArray[np.int64]
_Comparison = tuple[_Counts, _Floats, _Floats]  # number of sets, standard error and p, as of `compare_with_sets`


def contrast_rows(contrasts: Iterable[tuple[Contrast, Statistics]]) -> pl.DataFrame:
    """Return the columns of ``perturbation_contrasts`` from ``source_family`` on, sorted by its grain.

    Intervals are percentiles of the difference over resamples of the texts. With two control sets or more, each
    resample also moves the mean of the control by a draw of Student's distribution with k - 1 degrees of freedom times
    s / sqrt(k), s being the standard deviation of the k sets' effects: sets resampled with replacement are too narrow
    by sqrt((k - 1) / k), and for the few sets of a study by more, as their spread is itself uncertain.
    """
    schema = _schema("perturbation_contrasts", "source_family")
    frames = [pl.DataFrame(schema=schema)]
    for contrast, p_texts in contrasts:
        rows = _keys(contrast).with_columns(_statistics(contrast, p_texts))
        frames.append(rows.cast(schema).select(*schema).with_columns(pl.col(pl.Float64).fill_nan(None)))
    return pl.concat(frames).sort([name for name in table("perturbation_contrasts").grain if name in schema])


def mean_rows(contrasts: Iterable[tuple[Contrast, Statistics]]) -> pl.DataFrame:
    """Return the columns of ``perturbation_means`` from ``selection`` on: means over sources that are targets.

    Of own selections only. Intervals are percentiles over resamples of the texts. The p over functions permutes the
    functions of the sources, which keeps that some functions are changed by any neurons and that some neurons change
    all functions: it shows whether it matters which neurons belong to which function.
    """
    rows: list[dict[str, object]] = []
    for contrast, p_texts in contrasts:
        if contrast.selection in CONTROLS or not contrast.is_target.any():
            continue
        row: dict[str, object] = {name: getattr(contrast, name) for name in ("selection", "dose", "control")}
        row |= {"n_sources": int(contrast.is_target.sum()), "selectivity_p_functions": _p_functions(contrast)}
        observed, resampled = contrast.observed(), contrast.resampled()
        for name in ("difference", "selectivity"):
            mean, spread = (getattr(statistics, f"mean_{name}") for statistics in (observed, resampled))
            known = spread[np.isfinite(spread)]  # without another target there is no selectivity
            low, high = np.quantile(known, _INTERVAL) if len(known) else (np.nan, np.nan)
            p = float(getattr(p_texts, f"mean_{name}")) if np.isfinite(mean[0]) else np.nan
            row |= {name: float(mean[0]), f"{name}_low": low, f"{name}_high": high, f"{name}_p_texts": p}
        rows.append(row)
    means = pl.DataFrame(rows, schema=_schema("perturbation_means", "selection"))
    return means.with_columns(pl.col(pl.Float64).fill_nan(None))


def _schema(name: str, first: str) -> pl.Schema:
    """Return the columns of a table from `first` on, with their types in polars."""
    schema = pl.Schema(arrow_schema(table(name)))
    return pl.Schema(list(schema.items())[schema.names().index(first) :])


def _keys(contrast: Contrast) -> pl.DataFrame:
    """Return what is of a source or a target alone in the rows of a contrast, target by target within each source."""
    groups = [contrast.groups[place] for place in contrast.sources]
    names = ["source_family", "source_function", "selection", "n_sets", "dose", "control"]
    compared = (contrast.dose, contrast.control)
    rows = [(*group.source, group.selection, len(group.effects), *compared) for group in groups]
    overlap, energy_ratio = contrast.overlap_and_energy()
    sources = pl.DataFrame(rows, schema=names, orient="row")
    sources = sources.with_columns(control_overlap=overlap, control_energy_ratio=energy_ratio)
    targets = target_names(contrast.targets).with_columns(is_readable=contrast.is_readable)
    return sources.join(targets, how="cross", maintain_order="left_right")


def target_names(functions: Functions) -> pl.DataFrame:
    """Return the columns target_family and target_function of functions read out."""
    return pl.DataFrame(list(functions), schema=["target_family", "target_function"], orient="row")


def _statistics(contrast: Contrast, p_texts: Statistics) -> pl.DataFrame:
    """Return the statistics of a contrast, in the same order; selectivity is NaN on all functions but the own."""
    observed, resampled, resampling = contrast.observed(), contrast.resampled(), contrast.resampling
    difference, selectivity = observed.differences[0], observed.selectivities[0]
    effect = contrast.effects[0, contrast.sources]

    sets = [contrast.control_sets(place) for place in range(len(effect))]
    n_sets, error, p_sets = (np.stack(values) for values in zip(*map(compare_with_sets, effect, sets), strict=True))
    selective_tests = [
        # With a single set on some target, the mean there would be the set itself.
        _compare_selectivity(own, sets[place], contrast.target[place], contrast.is_readable)
        if np.isfinite(own) and n_sets[place][contrast.is_readable].min() > 1
        else compare_with_sets(own, np.empty(0))
        for place, own in enumerate(selectivity)
    ]
    n_selective, selective_error, selective_p_sets = (np.stack(values) for values in zip(*selective_tests, strict=True))

    differences = resampled.differences
    differences[~np.broadcast_to(resampling.is_defined[:, None], differences.shape)] = np.nan
    low, high = _interval(differences, error, n_sets, resampling)
    selectivity_low, selectivity_high = _interval(resampled.selectivities, selective_error, n_selective, resampling)
    is_on_target = contrast.target[:, None] == np.arange(len(contrast.targets))
    of_targets = {
        "is_on_target": is_on_target,
        "n_control_sets": n_sets,
        "effect": effect,
        "control_effect": np.broadcast_to(contrast.control_effects(contrast.effects)[0], effect.shape),
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "p_texts": p_texts.differences,
        "p_sets": p_sets,
    }
    of_sources = {
        "selectivity": selectivity,
        "selectivity_low": selectivity_low,
        "selectivity_high": selectivity_high,
        "selectivity_p_texts": np.where(np.isfinite(selectivity), p_texts.selectivities, np.nan),
        "selectivity_p_sets": selective_p_sets,
    }
    of_targets |= {name: np.where(is_on_target, values[:, None], np.nan) for name, values in of_sources.items()}
    return pl.DataFrame({name: values.reshape(-1) for name, values in of_targets.items()})


def compare_with_sets(
    own: _Floats,  # the effect of own neurons [...]
    effects: _Floats,  # of control sets, NaN where an effect does not count [sets, ...]
    largest: float | None = None,  # absolute value of the float32 numbers that they were computed from; None: their own
) -> _Comparison:
    """Return the number of control sets, the standard error of their mean effect, and the two-sided p of `own`. [...].

    The p value is of one more draw, from Student's prediction interval for one more normal observation: t = (own -
    mean) / (s sqrt(1 + 1/k)) with k - 1 degrees of freedom (Hahn and Meeker 1991, Statistical Intervals, section 4.2).
    It is NaN with fewer than two sets. Where all sets have the same effect it is 1 if `own` equals it, and else NaN, as
    nothing shows how far the next set might be.
    """
    n_sets = np.isfinite(effects).sum(axis=0)
    mean = finite_mean(effects, axis=0)
    deviation = np.sqrt(np.nansum((effects - mean) ** 2, axis=0) / np.maximum(n_sets - 1, 1))
    # The largest difference that may be owed to rounding.
    resolution = np.finfo(np.float32).eps * (np.nanmax(np.abs(effects), initial=0) if largest is None else largest)
    deviation = np.where(deviation > resolution, deviation, 0)
    distance = np.abs(own - mean)
    scale = np.where(deviation > 0, deviation * np.sqrt(1 + 1 / np.maximum(n_sets, 1)), 1)
    p_value = 2 * stats.t.sf(distance / scale, np.maximum(n_sets - 1, 1))
    unvaried = np.where(distance <= resolution, 1, np.nan)
    p_value = np.where(n_sets < 2, np.nan, np.where(deviation > 0, p_value, unvaried))
    return n_sets, deviation / np.sqrt(np.maximum(n_sets, 1)), p_value


def _compare_selectivity(own: _Floats, sets: _Floats, target: int, is_readable: NDArray[np.bool_]) -> _Comparison:
    """Compare a selectivity with those of control sets [sets, functions] for the same target.

    The mean of the sets on a function is taken from their effects on it: not every other source has an effect on each
    function that counts, and selectivities would differ just because some functions are more easily changed.
    """
    rest = sets - finite_mean(sets, axis=0)
    is_other = is_readable & (np.arange(len(is_readable)) != target)
    selectivities = rest[:, target] - finite_mean(rest[:, is_other], axis=1)
    return compare_with_sets(own, selectivities, largest=np.nanmax(np.abs(sets)))


def _interval(values: NDArray[np.floating], error: _Floats, n_sets: _Counts, resampling: Resampling) -> list[_Floats]:
    """Return the ends of intervals of resampled values [resamples, ...], whose control sets have errors [...]."""
    moved = values.astype(np.float64)
    for count in np.unique(n_sets[n_sets > 1]):
        is_of = n_sets == count
        moved[:, is_of] += resampling.student(int(count) - 1)[:, None] * error[is_of]
    # Linear between order statistics, of the resamples in which the value is defined.
    ordered = np.sort(moved, axis=0)
    last = np.maximum(np.isfinite(moved).sum(axis=0) - 1, 0)
    ends = []
    for probability in _INTERVAL:
        below = np.floor(probability * last).astype(np.int64)
        above = np.minimum(below + 1, last)
        low, high = (np.take_along_axis(ordered, place[None], axis=0)[0] for place in (below, above))
        ends.append(low + (probability * last - below) * (high - low))
    return ends


def _p_functions(contrast: Contrast) -> float:
    """Return the share of assignments of functions to sources with as much selectivity; NaN for a single source."""
    n_permutations = contrast.resampling.n_permutations
    is_target = contrast.is_target & contrast.is_readable[contrast.target]
    n_sources = int(is_target.sum())
    if n_sources < 2:
        return float("nan")
    # A source's selectivity rises with its difference on target, as the sum over all targets is given.
    matrix = contrast.observed().differences[0][is_target][:, contrast.target[is_target]]
    own = float(np.trace(matrix))
    slack = np.finfo(np.float32).eps * float(np.abs(matrix).sum())
    generator = np.random.default_rng((contrast.resampling.seed, 2))
    n_reached = 0
    block = max(1, _BLOCK // n_sources)
    for start in range(0, n_permutations, block):
        size = min(block, n_permutations - start)
        assigned = generator.permuted(np.tile(np.arange(n_sources), (size, 1)), axis=1)
        n_reached += int(np.count_nonzero(matrix[np.arange(n_sources), assigned].sum(axis=1) >= own - slack))
    return (1 + n_reached) / (1 + n_permutations)
