"""Balanced k-means: clusters of equal sizes around their means."""

from collections.abc import Callable
from typing import Literal, Self

import numpy as np
from k_means_constrained import KMeansConstrained
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.preprocessing import normalize
from sklearn.utils import check_array, check_random_state

# The solver rounds distances to thousandths of an integer of 32 bits. Data are given to it with this root mean square
# distance from their mean: the rounding is then a ten-thousandth of their spread, and no distance can overflow.
_SPREAD = 10.0


class BalancedKMeans(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """k-means with clusters of equal sizes; where they do not divide evenly, sizes differ by one.

    With rows of unit length this is how MoEfication (Zhang et al. 2022, arXiv 2110.01786) makes experts of the
    neurons of a dense layer. Each step assigns all rows to centres at once, as a minimum-cost flow of distances.

    Parameters
    ----------
    n_clusters
        Number of clusters.
    normalize
        Whether rows are scaled to unit L2 length first; rows of zeros stay as they are.
    init
        ``k-means++``, or the centres to start from, scaled to unit length if the rows are; cluster i is then the one
        that starts at centre i. [clusters, features]
    n_init
        Starts of k-means++, of which the one with the least inertia is kept; given centres are one start.
    max_iter
        Most iterations of a start.
    random_state
        Seed, or a `numpy.random.RandomState`.

    Attributes
    ----------
    labels_
        Cluster of each row. [rows]
    cluster_centers_
        Mean of each cluster's rows, scaled if `normalize`. [clusters, features]
    inertia_
        Sum over the rows, scaled if `normalize`, of the squared distance to the centre of their cluster.

    Examples
    --------
    >>> BalancedKMeans(2).fit([[0, 1], [1, 0], [0, 2], [3, 0]]).inertia_
    0.0
    """

    def __init__(
        self,
        n_clusters: int = 16,
        *,
        normalize: bool = True,
        init: Literal["k-means++"] | ArrayLike = "k-means++",
        n_init: int = 4,
        max_iter: int = 300,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.normalize = normalize
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, vectors: ArrayLike, y: None = None) -> Self:
        """Cluster rows.

        Parameters
        ----------
        vectors
            The rows; computed in float32 if they are, in float64 otherwise. [rows, features]
        y
            Not used; there because scikit-learn's pipelines pass it.

        Raises
        ------
        ValueError
            If there are fewer rows than clusters, values that are not finite, centres of another shape, or a parameter
            is below 1.
        """
        rows = check_array(vectors, dtype=(np.float64, np.float32))
        if not 1 <= self.n_clusters <= len(rows):
            raise ValueError(f"n_clusters is {self.n_clusters}; of {len(rows)} rows it must be 1 to {len(rows)}")
        for name in ("n_init", "max_iter"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        rows = unit_rows(rows) if self.normalize else rows
        scale, start, n_starts = _scale(rows), self.init, self.n_init
        if not isinstance(start, str):
            centres = check_array(start, dtype=rows.dtype)
            if centres.shape != (self.n_clusters, rows.shape[1]):
                raise ValueError(
                    f"init has the shape {centres.shape}; centres must have {(self.n_clusters, rows.shape[1])}"
                )
            start, n_starts = scale(centres), 1
        elif start != "k-means++":
            raise ValueError(f"init is {start!r}; it must be 'k-means++' or an array of centres")
        scaled = scale(rows)
        labellings = []
        for seed in check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=n_starts):
            solver = KMeansConstrained(
                self.n_clusters,
                size_min=len(rows) // self.n_clusters,
                size_max=-(-len(rows) // self.n_clusters),
                init=start,
                n_init=1,
                max_iter=self.max_iter,
                random_state=int(seed),
            )
            labellings.append(solver.fit(scaled).labels_)
        # The solver's own inertia may be of centres that its last assignment has left behind.
        inertias = [inertia(rows, labels) for labels in labellings]
        self.inertia_: float = min(inertias)
        self.labels_: NDArray[np.int32] = labellings[inertias.index(self.inertia_)]
        self.cluster_centers_ = cluster_means(rows, self.labels_)
        return self


def cluster_means(rows: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.floating]:
    """Return the mean of the rows [rows, features] with each label, in the order of the labels. [labels, features]."""
    return np.stack([rows[labels == label].mean(axis=0) for label in np.unique(labels)])


def inertia(rows: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the sum, over rows [rows, features], of the squared distance to the mean of the rows with their label."""
    clusters = (rows[labels == label] for label in np.unique(labels))
    return float(sum(np.square(members - members.mean(axis=0)).sum(dtype=np.float64) for members in clusters))


def unit_rows(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return rows [rows, features] scaled to unit L2 length; rows of zeros stay as they are."""
    scaled: NDArray[np.floating] = normalize(rows)
    return scaled


def _scale(rows: NDArray[np.floating]) -> Callable[[NDArray[np.floating]], NDArray[np.floating]]:
    """Return a function that scales rows, or centres of theirs, to the mean and spread that the solver needs."""
    mean: NDArray[np.floating] = rows.mean(axis=0)
    centred = rows - mean
    # By the largest value first: squares of very large or small ones would leave the range of their type.
    largest = float(np.abs(centred).max()) or 1.0
    centred /= largest
    root_mean_square = float(np.sqrt(np.square(centred).sum(dtype=np.float64) / len(centred)))
    factor = _SPREAD / (root_mean_square or 1.0)
    return lambda values: (values - mean) / largest * factor
