"""Graph partitions find what was planted, in parts of equal sizes."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from neuronlake.analysis.partitions.clustering import GraphPartition, cut


def planted(n_vertices: int, n_parts: int, *, n_within: int = 8, n_across: int = 1, seed: int = 0):
    """Return a graph with more edges within parts than across them, and the part of each vertex."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n_vertices) % n_parts)
    edges = [
        (vertex, other)
        for vertex in range(n_vertices)
        for other in (
            *generator.choice(np.flatnonzero(labels == labels[vertex]), n_within),
            *generator.integers(0, n_vertices, n_across),
        )
    ]
    one_way = sparse.csr_array((generator.uniform(0.1, 1, len(edges)), np.transpose(edges)), shape=[n_vertices] * 2)
    one_way.setdiag(0)
    return one_way.maximum(one_way.T), labels


def pairs(*edges: tuple[int, int, float], n_vertices: int) -> sparse.csr_array:
    """Return a graph of these edges: two vertices and the weight."""
    graph = sparse.lil_array((n_vertices, n_vertices))
    for first, second, weight in edges:
        graph[first, second] = graph[second, first] = weight
    return graph.tocsr()


def test_planted_parts_are_recovered():
    graph, labels = planted(240, 6)
    fitted = GraphPartition(6).fit(graph)
    assert adjusted_rand_score(labels, fitted.labels_) == 1
    assert fitted.cut_ == pytest.approx(cut(graph, labels))


@pytest.mark.parametrize("n_vertices", [60, 61, 65, 7])
def test_sizes_differ_by_one_at_most(n_vertices):
    graph, _ = planted(n_vertices, 2)  # that would be other sizes by themselves
    sizes = np.bincount(GraphPartition(7).fit_predict(graph))
    assert sorted(sizes) == [n_vertices // 7] * (7 - n_vertices % 7) + [n_vertices // 7 + 1] * (n_vertices % 7)


def test_heavy_edges_are_kept_and_light_ones_cut():
    graph = pairs((0, 1, 9.0), (1, 2, 1.0), (2, 3, 9.0), (3, 0, 1.0), n_vertices=4)
    fitted = GraphPartition(2).fit(graph)
    assert fitted.labels_[0] == fitted.labels_[1] != fitted.labels_[2] == fitted.labels_[3]
    assert fitted.cut_ == pytest.approx(2 / 20)


def test_the_vertex_attached_least_leaves_a_part_that_is_too_large():
    # Five vertices hang together, 4 by the lightest edge; 5 is alone.
    heavy = [(first, second, 1.0) for first in range(4) for second in range(first)]
    graph = pairs(*heavy, (3, 4, 0.1), n_vertices=8)
    labels = GraphPartition(2).fit(graph).labels_
    assert len(set(labels[:4])) == 1
    assert np.bincount(labels).tolist() == [4, 4]


def test_a_seed_gives_the_same_parts_and_another_seed_others():
    graph, _ = planted(200, 1, n_within=4)
    first, again, other = (GraphPartition(8, n_init=1, random_state=seed).fit(graph).labels_ for seed in (0, 0, 1))
    assert (first == again).all()
    assert adjusted_rand_score(first, other) < 0.9


def test_a_graph_without_edges_is_divided_equally():
    fitted = GraphPartition(3).fit(sparse.csr_array((9, 9)))
    assert (np.bincount(fitted.labels_).tolist(), fitted.cut_) == ([3, 3, 3], 0)


def test_the_diagonal_means_nothing():
    graph, _ = planted(60, 3)
    fitted, with_diagonal = (GraphPartition(3).fit(each) for each in (graph, graph + 5 * sparse.eye_array(60)))
    assert (fitted.labels_ == with_diagonal.labels_).all()
    assert fitted.cut_ == with_diagonal.cut_


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_parts_do_not_depend_on_the_scale_of_weights(scale):
    graph, labels = planted(120, 4)
    assert adjusted_rand_score(labels, GraphPartition(4).fit_predict(scale * graph)) == 1


def test_the_estimator_is_cloned_with_its_parameters():
    estimator = GraphPartition(3, n_init=2, random_state=7)
    assert clone(estimator).get_params() == {"n_clusters": 3, "n_init": 2, "random_state": 7}


@pytest.mark.parametrize(
    ("adjacency", "message"),
    [
        (np.eye(4), "square sparse matrix, not ndarray"),
        (sparse.csr_array((4, 5)), "square sparse matrix"),
        (sparse.csr_array([[0, 1.0], [0, 0]]), "symmetric"),
        (sparse.csr_array([[0, -1.0], [-1.0, 0]]), "finite and not negative"),
        (sparse.csr_array([[0, np.nan], [np.nan, 0]]), "finite and not negative"),
        (sparse.csr_array((1, 1)), "n_clusters is 2; of 1 vertices it must be 1 to 1"),
    ],
)
def test_what_is_no_graph_is_refused(adjacency, message):
    with pytest.raises(ValueError, match=message):
        GraphPartition(2).fit(adjacency)
