"""Random partitions: the baseline of every other."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state


class RandomPartition(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Clusters of equal sizes drawn at random; where they do not divide evenly, sizes differ by one.

    Parameters
    ----------
    n_clusters
        Number of clusters.
    random_state
        Seed, or a `numpy.random.RandomState`.

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
        """Draw a cluster for each row.

        Parameters
        ----------
        vectors
            Anything with one row a member; only the number of rows matters.
        y
            Not used; there because scikit-learn's pipelines pass it.

        Raises
        ------
        ValueError
            If there are fewer rows than clusters, or no clusters.
        """
        n_rows = np.shape(vectors)[0]
        if not 1 <= self.n_clusters <= n_rows:
            raise ValueError(f"n_clusters is {self.n_clusters}; of {n_rows} rows it must be 1 to {n_rows}")
        labels = np.sort(np.arange(n_rows, dtype=np.int32) % self.n_clusters)
        self.labels_: NDArray[np.int32] = check_random_state(self.random_state).permutation(labels)
        return self
