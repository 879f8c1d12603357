"""Agreement of two partitions, against scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

A, B, C = "a" * 16, "b" * 16, "c" * 16


def agreement(store: Store) -> dict[tuple[object, ...], tuple[float, float, float, int]]:
    """Return index, information, its variation and neurons of each pair and layer."""
    query = (
        "select partition_id_a, partition_id_b, layer, adjusted_rand_index, normalized_mutual_information, "
        "variation_of_information, n_neurons from partition_agreement"
    )
    return {row[:3]: row[3:] for row in Database(store).sql(query).rows()}


def expected(a: np.ndarray, b: np.ndarray) -> tuple[object, object, object, int]:
    both = (a >= 0) & (b >= 0)
    shared, *entropies = (
        metrics.mutual_info_score(*each) for each in ((a[both], b[both]), (a[both],) * 2, (b[both],) * 2)
    )
    return (
        pytest.approx(metrics.adjusted_rand_score(a[both], b[both]), abs=1e-12),
        pytest.approx(metrics.normalized_mutual_info_score(a[both], b[both]), abs=1e-12),
        pytest.approx(sum(entropies) - 2 * shared, abs=1e-12),
        np.count_nonzero(both),
    )


def test_agreement_is_that_of_scikit_learn(store: Store, partition: Callable[..., None]) -> None:
    generator = np.random.default_rng(0)
    first = generator.integers(0, 8, (2, 300))
    like_first = np.where(generator.random((2, 300)) < 0.8, first, generator.integers(0, 8, (2, 300)))
    uncovered = np.where(generator.random((2, 300)) < 0.1, -1, generator.integers(0, 40, (2, 300)))
    experts = {A: first, B: like_first, C: uncovered}
    for partition_id, each in experts.items():
        partition(store, partition_id, each)
    assert agreement(store) == {
        (a, b, layer): expected(experts[a][layer], experts[b][layer])
        for a, b in ((A, B), (A, C), (B, C))
        for layer in (0, 1)
    }


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([0, 0, 0, 0], [0, 1, 2, 3]),
        ([0, 1, 2, 3], [3, 1, 0, 2]),
        ([0, 0, 1, 1], [1, 1, 0, 0]),
        ([0, 0, 1, 1], [0, 1, 0, 1]),
        ([0, 0, 0, 1], [0, 0, 0, 0]),
        ([0], [5]),
    ],
)
def test_degenerate_partitions_agree_as_in_scikit_learn(
    store: Store, partition: Callable[..., None], a: list[int], b: list[int]
) -> None:
    partition(store, A, np.asarray([a]))
    partition(store, B, np.asarray([b]))
    assert agreement(store) == {(A, B, 0): expected(np.asarray(a), np.asarray(b))}


def test_large_partitions_overflow_nothing(store: Store, partition: Callable[..., None]) -> None:
    a = np.arange(200_000) // 100_000
    b = np.where(np.arange(200_000) % 1000 == 0, 1 - a, a)
    partition(store, A, a[None])
    partition(store, B, b[None])
    assert agreement(store) == {(A, B, 0): expected(a, b)}


def test_partitions_of_different_models_are_not_compared(store: Store, partition: Callable[..., None]) -> None:
    partition(store, A, np.zeros((1, 4), dtype=int), model="one")
    partition(store, B, np.zeros((1, 4), dtype=int), model="two")
    partition(store, C, np.zeros((1, 4), dtype=int), model="two", revision="step9", method="random")
    query = "select model, partition_id_a, partition_id_b, revision_a, revision_b, method_a, method_b from "
    assert Database(store).sql(query + "partition_agreement").rows() == [
        ("two", B, C, "main", "step9", "kmeans", "random")
    ]


def test_a_filter_on_both_partitions_reaches_the_files(database: Database, filters: Callable[..., list[str]]) -> None:
    one, two = "1111111111111111", "2222222222222222"
    query = f"from partition_agreement where partition_id_a = '{one}' and partition_id_b = '{two}'"
    assert sorted(filters(database, query, "expert")) == [f"partition_id = '{one}'", f"partition_id = '{two}'"]
