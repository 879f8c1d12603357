"""Control sets, as a sample of all that could be drawn in the same way."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def compare_with_sets(
    own: NDArray[np.float64],  # the effect of own neurons [...]
    effects: NDArray[np.float64],  # of control sets, NaN where an effect does not count [sets, ...]
    largest: float | None = None,  # absolute value of the float32 numbers that they were computed from; None: their own
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the number of control sets, the standard error of their mean effect, and the two-sided p value of `own`.

    The p value is that of one more draw from the distribution of the sets, from Student's prediction interval for one
    more normal observation: t = (own - mean) / (s sqrt(1 + 1/k)) with k - 1 degrees of freedom (Hahn and Meeker 1991,
    Statistical Intervals, section 4.2). It is NaN where there are fewer than two sets. Where all sets have the same
    effect it is 1 if `own` equals it, and else NaN, as nothing shows how far the next set might be. [...].
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


def finite_mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the mean of the values along an axis that are not NaN; NaN where all are."""
    n_values = np.isfinite(values).sum(axis=axis)
    mean: NDArray[np.float64] = np.full(n_values.shape, np.nan)
    np.divide(np.nansum(values, axis=axis), n_values, out=mean, where=n_values > 0)
    return mean
