"""Partitions of a graph into parts of equal sizes that cut as little weight as they can."""

from typing import Self

import numpy as np
import pymetis
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state

# METIS takes integers: weights are scaled so that their sum leaves room in 32 bits, the narrowest it is built with.
_TOTAL_WEIGHT = 2**30


class GraphPartition(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Parts of equal sizes with little edge weight between them; where they do not divide evenly, sizes differ by one.

    Each start runs METIS (Karypis and Kumar 1998) twice, by recursive bisection and into all parts at once: either may
    cut half as much as the other. Its balance is approximate: the vertices that are attached least are then moved
    from parts that are too large to parts that are too small.

    Parameters
    ----------
    n_clusters
        Number of parts.
    n_init
        Starts, of which the one that cuts least is kept.
    random_state
        Seed, or a `numpy.random.RandomState`.

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
        """Partition a graph.

        Parameters
        ----------
        adjacency
            Weight of the edge between two vertices, 0 for none; the diagonal is ignored.
            Symmetric, not negative. [vertices, vertices]
        y
            Not used; there because scikit-learn's pipelines pass it.

        Raises
        ------
        ValueError
            If it is not a sparse, square, symmetric matrix of finite weights of at least 0, if there are fewer
            vertices than parts, or a parameter is below 1.
        """
        graph = _graph(adjacency)
        n_vertices = graph.shape[0]
        if not 1 <= self.n_clusters <= n_vertices:
            raise ValueError(f"n_clusters is {self.n_clusters}; of {n_vertices} vertices it must be 1 to {n_vertices}")
        if self.n_init < 1:
            raise ValueError(f"n_init is {self.n_init}; it must be at least 1")
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
    """Return the weight of the edges between vertices of different labels, as a share of all; 0 without edges.

    The adjacency is symmetric and has no diagonal. [vertices, vertices].
    """
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
    if not graph.nnz:
        return np.zeros(graph.shape[0], dtype=np.int32)
    weights = np.rint(graph.data * (_TOTAL_WEIGHT / graph.data.sum())).astype(np.int64)
    _, parts = pymetis.part_graph(
        n_clusters,
        pymetis.CSRAdjacency(graph.indptr, graph.indices),
        eweights=np.maximum(weights, 1),
        recursive=by_bisection,
        options=pymetis.Options(seed=0),
    )
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
