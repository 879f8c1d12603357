"""Resampling of texts: what the effects of perturbations would have been, had other texts been read."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...errors import AnalysisError

_N_STRATA = 2  # negatives, positives
_BLOCK_SIZE = 1 << 22  # floats of a block of permuted effects: small enough to stay near the processor


class Resampling:
    """The texts of a study, their bootstrap resamples and their permutations: the same for all of its cells.

    The effect of a cell on an instance is how much worse the instance is read with the cell's neurons perturbed; on a
    function, the mean, over its strata (positives and negatives), of the mean within the stratum. Instances of one text
    depend on each other, so texts are resampled and not instances. A cell is reduced at once to the sums of its effects
    by text, function and stratum, which is all that is needed. Every function has an instance. An `AnalysisError` if no
    resample holds all strata of some function.
    """

    is_defined: NDArray[np.bool_]  # whether a resample holds all strata that the function has [resamples, functions]

    def __init__(
        self,
        strata: NDArray[np.int8],  # 1 positive, 0 negative, -1 no instance of the function [functions, instances]
        text: NDArray[np.integer],  # the text of each instance: any numbers [instances]
        *,
        n_bootstrap: int,
        n_permutations: int,
        seed: int,
    ) -> None:
        texts, place = np.unique(text, return_inverse=True)
        self.n_permutations = n_permutations
        self.seed = seed
        self._shape = (len(texts), len(strata), _N_STRATA)
        self._function, self._instance = np.nonzero(strata >= 0)
        stratum = strata[self._function, self._instance].astype(np.int64)
        self._code = (place[self._instance] * len(strata) + self._function) * _N_STRATA + stratum

        counts = np.bincount(self._code, minlength=int(np.prod(self._shape))).reshape(self._shape)
        n_instances = counts.sum(axis=0)  # [functions, strata]
        n_strata = (n_instances > 0).sum(axis=1, keepdims=True)
        # Sums of effects times these, added up, are the mean over strata of the mean within: for the texts as they are,
        # and for each resample, which has its own counts. A stratum that is nowhere has no part in it.
        self._weight = 1 / (n_strata * np.where(n_instances > 0, n_instances, 1))
        generator = np.random.default_rng((seed, 0))
        drawn = generator.multinomial(len(texts), np.full(len(texts), 1 / len(texts)), size=n_bootstrap)
        self._drawn = drawn.astype(np.float32)  # [resamples, texts]
        resampled = (self._drawn @ counts.reshape(len(texts), -1).astype(np.float32)).reshape(-1, *self._shape[1:])
        self.is_defined = ((resampled > 0) | (n_instances == 0)).all(axis=2)
        if not self.is_defined.any(axis=0).all():
            problem = f"none of {n_bootstrap:,} resamples of {len(texts):,} texts holds all strata of some function"
            raise AnalysisError(f"{problem}; more resamples or more texts are needed")
        self._resampled_weight = (1 / (n_strata * np.where(resampled > 0, resampled, 1))).astype(np.float32)
        # Equally spaced probabilities in random order: as good as draws, and a quantile of them is exact.
        self._probability = generator.permutation((np.arange(n_bootstrap) + 0.5) / n_bootstrap)

    def reduce(self, effects: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the sums [texts, functions, strata] of a cell's effects on instances [functions or 1, instances]."""
        row = self._function if len(effects) > 1 else 0
        sums = np.bincount(self._code, effects[row, self._instance], minlength=int(np.prod(self._shape)))
        return sums.reshape(self._shape).astype(np.float32)

    def effects(self, sums: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the effect on each function [functions], from what `reduce` returned."""
        return np.asarray((sums.sum(axis=0, dtype=np.float64) * self._weight).sum(axis=1))

    def contributions(self, sums: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the share of each text in the effects [texts, functions], which are the sums of these over texts."""
        return np.asarray((sums * self._weight).sum(axis=2), dtype=np.float32)

    def bootstrap(self, sums: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the effects in each resample, from what `reduce` returned; NaN where undefined [resamples, functions].

        Resamples are the same for all cells, so that differences between cells are paired.
        """
        resampled = (self._drawn @ sums.reshape(len(sums), -1)).reshape(-1, *self._shape[1:])
        return np.where(self.is_defined, (resampled * self._resampled_weight).sum(axis=2), np.float32(np.nan))

    def student(self, degrees_of_freedom: int) -> NDArray[np.float64]:
        """Return a draw from Student's distribution for each resample. [resamples]."""
        return np.asarray(stats.t.ppf(self._probability, degrees_of_freedom))

    def permutation_test(
        self,
        contributions: NDArray[np.float32],  # of texts to effects of cells, or means of cells [texts, cells, functions]
        contrast: Callable[[NDArray[np.floating], int], Sequence[NDArray[np.floating]]],
    ) -> tuple[NDArray[np.float64], ...]:
        """Return the two-sided p values of contrasts of effects: (1 + as far from 0) / (1 + permutations).

        A permutation swaps what was read before and after the perturbation, with probability 1/2 for each text: in all
        its instances, and in all cells. Contrasts are linear in effects, so that those of permuted texts are contrasts
        of permuted effects, and a cell is permuted once however many contrasts use it. `contrast` takes effects [n,
        cells, functions] and a sign, and returns arrays [n, ...]: with -1 the contrasts, and with +1 sums of absolute
        values, which bound the rounding errors. For every array there is one of p values [...].
        """
        n_texts, n_cells, n_functions = contributions.shape
        columns = contributions.reshape(n_texts, -1)
        # Ties are common, as instances are right or wrong: what differs by rounding only counts as equal.
        sizes = np.abs(columns).sum(axis=0, dtype=np.float64).reshape(1, n_cells, n_functions)
        slack = np.finfo(np.float32).eps * np.sqrt(n_texts)
        effects = columns.sum(axis=0, dtype=np.float64).reshape(1, n_cells, n_functions)
        both = zip(contrast(effects, -1), contrast(sizes, 1), strict=True)
        thresholds = [(np.abs(observed) - slack * size).astype(np.float32) for observed, size in both]
        reached = [np.zeros(threshold.shape[1:], dtype=np.int64) for threshold in thresholds]
        generator = np.random.default_rng((self.seed, 1))
        block = max(1, _BLOCK_SIZE // columns.shape[1])
        for start in range(0, self.n_permutations, block):
            size = (min(block, self.n_permutations - start), n_texts)
            signs = (2 * generator.integers(0, 2, size, dtype=np.int8) - 1).astype(np.float32)
            permuted = (signs @ columns).reshape(-1, n_cells, n_functions)
            for count, value, threshold in zip(reached, contrast(permuted, -1), thresholds, strict=True):
                count += np.count_nonzero(np.abs(value) >= threshold, axis=0)
        return tuple((1 + count) / (1 + self.n_permutations) for count in reached)


def finite_mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the mean of the values along an axis that are not NaN; NaN where all are."""
    n_values = np.isfinite(values).sum(axis=axis)
    return np.where(n_values > 0, np.nansum(values, axis=axis) / np.maximum(n_values, 1), np.nan)
