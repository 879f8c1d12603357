"""Control sets as a sample of all that could be drawn in the same way."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True, slots=True)
class SetSample:
    """Mean and spread of the effects of control sets."""

    n_sets: NDArray[np.int64]  # sets with an effect [...]
    mean: NDArray[np.float64]  # mean effect, NaN of no set [...]
    # Standard deviation with k - 1 in the denominator; 0 of equal effects and of fewer than two [...]
    deviation: NDArray[np.float64]
    resolution: float  # largest difference that may be owed to rounding

    @property
    def standard_error(self) -> NDArray[np.float64]:
        """Standard error of the mean. [...]."""
        return self.deviation / np.sqrt(np.maximum(self.n_sets, 1))

    def p_value(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the two-sided p value of the effect `own` [...] as one more draw from the distribution of the sets.

        It comes from Student's prediction interval for one more normal observation, t = (own - mean) /
        (s sqrt(1 + 1/k)) with k - 1 degrees of freedom (Hahn and Meeker 1991, Statistical Intervals, section 4.2). It
        is NaN where there are fewer than two sets. Where all sets have the same effect it is 1 if `own` equals it, and
        else NaN, as nothing shows how far the next set might be. [...].
        """
        distance = np.abs(own - self.mean)
        varies = self.deviation > 0
        scale = np.where(varies, self.deviation * np.sqrt(1 + 1 / np.maximum(self.n_sets, 1)), 1)
        p_value = 2 * stats.t.sf(distance / scale, np.maximum(self.n_sets - 1, 1))
        unvaried = np.where(distance <= self.resolution, 1, np.nan)
        return np.where(self.n_sets < 2, np.nan, np.where(varies, p_value, unvaried))


def sample(effects: NDArray[np.float64], scale: float | None = None) -> SetSample:
    """Return the mean and spread of the effects of control sets [sets, ...], NaN where an effect does not count.

    `scale` is the largest absolute value of the float32 numbers that they were computed from; None for their own.
    """
    n_sets = np.isfinite(effects).sum(axis=0)
    mean = finite_mean(effects, axis=0)
    squares = np.nansum((effects - mean) ** 2, axis=0)
    deviation = np.sqrt(squares / np.maximum(n_sets - 1, 1))
    largest = np.nanmax(np.abs(effects), initial=0) if scale is None else scale
    resolution = float(np.finfo(np.float32).eps * largest)
    return SetSample(n_sets, mean, np.where(deviation > resolution, deviation, 0), resolution)


def finite_mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the mean of the values along an axis that are not NaN; NaN where all are."""
    n_values = np.isfinite(values).sum(axis=axis)
    mean: NDArray[np.float64] = np.full(n_values.shape, np.nan)
    np.divide(np.nansum(values, axis=axis), n_values, out=mean, where=n_values > 0)
    return mean
