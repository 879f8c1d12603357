"""Clusters of equal sizes: balanced k-means around means, and parts of a graph with little weight between them."""

from collections.abc import Callable
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.preprocessing import normalize
from sklearn.utils import check_array, check_random_state

# The solver rounds distances to thousandths of an integer of 32 bits. Data are given to it with this root mean square
# distance from their mean: the rounding is then a ten-thousandth of their spread, and no distance can overflow.
_SPREAD = 10.0
# METIS takes integers: weights are scaled so that their sum leaves room in 32 bits, the narrowest it is built with.
_TOTAL_WEIGHT = 2**30


class BalancedKMeans(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """k-means with clusters of equal sizes; where they do not divide evenly, sizes differ by one.

    With rows of unit length this is how MoEfication (Zhang et al. 2022, arXiv 2110.01786) makes experts of the
    neurons of a dense layer. Each step assigns all rows to centres at once, as a minimum-cost flow of distances.

    Parameters
    ----------
    n_clusters, random_state
        Number of clusters, and a seed or `numpy.random.RandomState`.
    normalize
        Whether rows are scaled to unit L2 length first; rows of zeros stay as they are.
    init
        ``k-means++``, or the centres to start from, scaled to unit length if the rows are; cluster i is then the one
        that starts at centre i. [clusters, features]
    n_init, max_iter
        Starts of k-means++, of which the one with the least inertia is kept (given centres are one), and the most
        iterations of one.

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
        """Cluster rows [rows, features]; computed in float32 if they are, in float64 otherwise.

        A ValueError if there are fewer rows than clusters, values that are not finite, centres of another shape, or a
        parameter is below 1. `y` is not used, and there because scikit-learn's pipelines pass it.
        """
        from k_means_constrained import KMeansConstrained

        rows = check_array(vectors, dtype=(np.float64, np.float32))
        _check_numbers(self, len(rows), "rows")
        rows = unit_rows(rows) if self.normalize else rows
        scale, start, n_starts = _scale(rows), self.init, self.n_init
        if not isinstance(start, str):
            centres, wanted = check_array(start, dtype=rows.dtype), (self.n_clusters, rows.shape[1])
            if centres.shape != wanted:
                raise ValueError(f"init has the shape {centres.shape}; centres must have {wanted}")
            start, n_starts = scale(centres), 1
        elif start != "k-means++":
            raise ValueError(f"init is {start!r}; it must be 'k-means++' or an array of centres")
        scaled, (least, left_over) = scale(rows), divmod(len(rows), self.n_clusters)
        options = {"size_min": least, "size_max": least + (left_over > 0), "max_iter": self.max_iter}
        labellings = []
        for seed in check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=n_starts):
            solver = KMeansConstrained(self.n_clusters, init=start, n_init=1, random_state=int(seed), **options)
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
    return np.asarray(normalize(rows))


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


class GraphPartition(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Parts of equal sizes with little edge weight between them; where they do not divide evenly, sizes differ by one.

    Each start runs METIS (Karypis and Kumar 1998) twice, by recursive bisection and into all parts at once: either may
    cut half as much as the other. Its balance is approximate: the vertices that are attached least are then moved
    from parts that are too large to parts that are too small.

    Parameters
    ----------
    n_clusters, n_init, random_state
        Number of parts, and of starts, of which the one that cuts least is kept; seed, or `numpy.random.RandomState`.

    Attributes
    ----------
    labels_
        Part of each vertex. [vertices]
    cut_
        Weight of the edges between parts, as a share of the weight of all edges; 0 in a graph without edges.

    Examples
    --------
    >>> weights = sparse.csr_array([[0, 5, 0, 0], [5, 0, 1, 0], [0, 1, 0, 5], [0, 0, 5, 0]])
    >>> GraphPartition(2).fit(weights).cut_  # 1 of 11
    0.0909...
    """

    def __init__(
        self, n_clusters: int = 16, *, n_init: int = 4, random_state: int | np.random.RandomState | None = 0
    ) -> None:
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.random_state = random_state

    def fit(self, adjacency: sparse.sparray | sparse.spmatrix, y: None = None) -> Self:
        """Partition a graph, given the weight of the edge between two vertices, 0 for none [vertices, vertices].

        The diagonal is ignored. A ValueError unless it is a sparse, square, symmetric matrix of finite weights of at
        least 0, or if there are fewer vertices than parts, or a parameter is below 1. `y` is not used, and there
        because scikit-learn's pipelines pass it.
        """
        graph = _graph(adjacency)
        n_vertices = graph.shape[0]
        _check_numbers(self, n_vertices, "vertices")
        labellings = []
        random_state = check_random_state(self.random_state)
        for _ in range(self.n_init):
            # METIS's own seed changes little; another order of the vertices does.
            order = random_state.permutation(n_vertices)
            shuffled = graph[order][:, order]
            for by_bisection in (True, False):
                labels = np.empty(n_vertices, dtype=np.int32)
                labels[order] = _metis(shuffled, self.n_clusters, by_bisection=by_bisection)
                labellings.append(_even_out(graph, labels, self.n_clusters))
        cuts = [cut(graph, labels) for labels in labellings]
        self.cut_: float = min(cuts)
        self.labels_: NDArray[np.int32] = labellings[cuts.index(self.cut_)]
        return self


def cut(adjacency: sparse.csr_array, labels: NDArray[np.integer]) -> float:
    """Return the weight of edges, off the diagonal, between different labels, as a share of all; 0 without edges."""
    edges = adjacency.tocoo()
    total = float(edges.data.sum())
    return float(edges.data[labels[edges.row] != labels[edges.col]].sum()) / total if total else 0.0


def _graph(adjacency: sparse.sparray | sparse.spmatrix) -> sparse.csr_array:
    """Return a checked adjacency without its diagonal."""
    if not sparse.issparse(adjacency) or adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise ValueError(f"adjacency must be a square sparse matrix, not {type(adjacency).__name__}")
    edges = sparse.coo_array(adjacency, dtype=np.float64)
    if not np.isfinite(edges.data).all() or (edges.data < 0).any():
        raise ValueError("weights of edges must be finite and not negative")
    is_edge = edges.row != edges.col
    coordinates = (edges.row[is_edge], edges.col[is_edge])
    graph = sparse.csr_array((edges.data[is_edge], coordinates), shape=edges.shape)  # sums what is given twice
    graph.eliminate_zeros()
    if (graph != graph.T).nnz:
        raise ValueError("adjacency must be symmetric")
    return graph


def _metis(graph: sparse.csr_array, n_clusters: int, *, by_bisection: bool) -> NDArray[np.int32]:
    """Return the part of each vertex, by METIS. [vertices]."""
    import pymetis

    if not graph.nnz:
        return np.zeros(graph.shape[0], dtype=np.int32)
    weights = np.maximum(np.rint(graph.data * (_TOTAL_WEIGHT / graph.data.sum())).astype(np.int64), 1)
    edges, options = pymetis.CSRAdjacency(graph.indptr, graph.indices), pymetis.Options(seed=0)
    _, parts = pymetis.part_graph(n_clusters, edges, eweights=weights, recursive=by_bisection, options=options)
    return np.asarray(parts, dtype=np.int32)


def _even_out(graph: sparse.csr_array, labels: NDArray[np.int32], n_clusters: int) -> NDArray[np.int32]:
    """Move vertices one by one until sizes are equal, each time the vertex whose move adds least to the cut."""
    n_vertices = len(labels)
    sizes = np.bincount(labels, minlength=n_clusters)
    wanted = np.full(n_clusters, n_vertices // n_clusters)
    wanted[np.argsort(-sizes, kind="stable")[: n_vertices % n_clusters]] += 1
    is_member = sparse.csr_array((np.ones(n_vertices), (np.arange(n_vertices), labels)), shape=(n_vertices, n_clusters))
    attachment = (graph @ is_member).toarray()  # weight from each vertex to each part [vertices, parts]
    labels = labels.copy()
    while (sizes > wanted).any():
        movable = np.flatnonzero((sizes > wanted)[labels])
        open_parts = np.flatnonzero(sizes < wanted)
        loss = attachment[movable, labels[movable]][:, None] - attachment[movable][:, open_parts]
        which, where = np.unravel_index(np.argmin(loss), loss.shape)
        vertex, part = movable[which], open_parts[where]
        edges = slice(graph.indptr[vertex], graph.indptr[vertex + 1])
        attachment[graph.indices[edges], labels[vertex]] -= graph.data[edges]
        attachment[graph.indices[edges], part] += graph.data[edges]
        sizes[labels[vertex]] -= 1
        sizes[part] += 1
        labels[vertex] = part
    return labels


def _check_numbers(estimator: BalancedKMeans | GraphPartition, n_members: int, what: str) -> None:
    """Raise a ValueError unless each cluster can have one of the members, and all other numbers are at least 1."""
    if not 1 <= estimator.n_clusters <= n_members:
        raise ValueError(f"n_clusters is {estimator.n_clusters}; of {n_members} {what} it must be 1 to {n_members}")
    for name in ("n_init", "max_iter"):
        if getattr(estimator, name, 1) < 1:
            raise ValueError(f"{name} is {getattr(estimator, name)}; it must be at least 1")
