"""Modularization beside what random partitions have."""

from collections.abc import Callable

import numpy as np
import pytest

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

RUN = "a" * 16


def test_the_baseline_is_of_random_partitions_of_the_revision_with_as_many_neurons_and_experts(
    store: Store, run: Callable[..., None], partition: Callable[..., None]
) -> None:
    # The two top neurons of 200 are in one expert of six, or in the other with all the rest.
    scores = np.full(200, 0.5, dtype=np.float32)
    scores[:2] = 0.9
    given = {"ap": scores, "ap_complement": np.zeros(200, dtype=np.float32)}
    run(store, RUN, n_layers=1, functions=(("task", "a"),), prevalence=(0.5,), scores=given)
    neurons = np.arange(200)
    functional, not_functional = (neurons >= 6).astype(int), 1 - np.isin(neurons, range(6, 12))
    partitions = {
        "kmeans": (not_functional, {}),
        "one": (functional, {"method": "random"}),
        "two": (not_functional, {"method": "random"}),
        "like neurons": ((neurons >= 5).astype(int), {"method": "matched"}),
        "revision": (functional, {"method": "random", "revision": "step9"}),
        "neurons": (np.where(neurons == 199, -1, functional), {"method": "random"}),
        "experts": (functional + (neurons >= 100), {"method": "random"}),
    }
    for partition_id, (experts, described) in partitions.items():
        partition(store, partition_id, experts[None], **described)
    query = (
        "select partition_id, n_random, random_proportion, random_proportion_max, random_degree, random_degree_max "
        "from modularization"
    )
    baseline = (2, 1 / 4, 1 / 2, pytest.approx(200 / 6 / 2), pytest.approx(200 / 6))
    assert {row[0]: row[1:] for row in Database(store).sql(query).rows()} == {
        **dict.fromkeys(("kmeans", "one", "two", "like neurons"), baseline),
        "revision": (1, 1 / 2, 1 / 2, pytest.approx(200 / 6), pytest.approx(200 / 6)),
        "neurons": (1, 1 / 2, 1 / 2, pytest.approx(199 / 6), pytest.approx(199 / 6)),
        "experts": (1, 1 / 3, 1 / 3, pytest.approx(200 / 6), pytest.approx(200 / 6)),
    }


def test_without_random_partitions_the_random_columns_are_null(
    store: Store, run: Callable[..., None], partition: Callable[..., None]
) -> None:
    run(store, RUN, n_neurons=20)
    partition(store, "kmeans", np.tile(np.arange(20) // 10, (2, 1)))
    query = (
        "select distinct n_random, random_proportion, random_proportion_max, random_degree, random_degree_max, "
        "random_eta_squared from modularization"
    )
    assert Database(store).sql(query).rows() == [(0, *[None] * 5)]
