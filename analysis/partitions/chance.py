"""What chance makes: random partitions, the baseline of every other, and labels permuted within strata."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state

_STACKS = ("encoder", "decoder")
_Integers = NDArray[np.integer]


class RandomPartition(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Clusters of equal sizes drawn at random; where they do not divide evenly, sizes differ by one.

    Parameters
    ----------
    n_clusters, random_state
        Number of clusters, and a seed or `numpy.random.RandomState`.

    Attributes
    ----------
    labels_
        Cluster of each row. [rows]

    Examples
    --------
    >>> RandomPartition(2, random_state=0).fit([[0, 1], [1, 0], [0, 2], [3, 0]]).labels_.tolist()
    [1, 1, 0, 0]
    """

    def __init__(self, n_clusters: int = 16, *, random_state: int | np.random.RandomState | None = 0) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state

    def fit(self, vectors: ArrayLike, y: None = None) -> Self:
        """Draw a cluster for each row of `vectors`; a ValueError if there are fewer rows than clusters, or no clusters.

        Only the number of rows matters; `y` is not used, and there because scikit-learn's pipelines pass it.
        """
        n_rows = np.shape(vectors)[0]
        if not 1 <= self.n_clusters <= n_rows:
            raise ValueError(f"n_clusters is {self.n_clusters}; of {n_rows} rows it must be 1 to {n_rows}")
        labels = np.sort(np.arange(n_rows, dtype=np.int32) % self.n_clusters)
        self.labels_: NDArray[np.int32] = check_random_state(self.random_state).permutation(labels)
        return self


def layer_seed(seed: int, stack: str, layer: int) -> int:
    """Return the seed of one layer, 32 bits: what is drawn for a layer does not depend on which others there are."""
    return int(np.random.SeedSequence([seed, _STACKS.index(stack), layer]).generate_state(1)[0])


def strata(norm: NDArray[np.floating], firing_rate: NDArray[np.floating], n_bins: int = 5) -> NDArray[np.int64]:
    """Return the stratum of each neuron of a layer, 0 to ``n_bins ** 2 - 1``: its quantile bins of norm and of rate.

    Equal values share a bin, so that the many neurons that always fire, or never, are one bin of their own. [neurons].
    """
    return _bins(norm, n_bins) * n_bins + _bins(firing_rate, n_bins)


def permute_within(labels: _Integers, strata: _Integers, generator: np.random.Generator) -> _Integers:
    """Return the labels of a layer's neurons, permuted at random among the neurons of each stratum. [neurons]."""
    members = np.argsort(strata, kind="stable")
    shuffled = np.lexsort((generator.random(len(labels)), strata))  # the same strata in the same places
    permuted = np.empty_like(labels)
    permuted[members] = labels[shuffled]
    return permuted


def _bins(values: NDArray[np.floating], n_bins: int) -> NDArray[np.int64]:
    return np.searchsorted(np.quantile(values, np.arange(1, n_bins) / n_bins), values, side="left").astype(np.int64)
