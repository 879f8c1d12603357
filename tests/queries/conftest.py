"""Small conforming stores, made through the store's own jobs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from queries.small_partitions import add_alignment, add_partition, random_experts
from queries.small_runs import add_controls, add_run, rankings
from queries.small_studies import add_emergence_study, add_perturbation_study, add_series

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Return a database over an empty store: for macros."""
    return Database(tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store of two checkpoints of one model, and of all that is made of them; do not write to it."""
    store = Store(tmp_path_factory.mktemp("filled") / "store")
    add_run(store, "aaaaaaaaaaaaaaaa", revision="step0", step=0, weights="w0", seed=1)
    add_run(store, "bbbbbbbbbbbbbbbb", revision="step1000", step=1000, weights="w1", seed=2)
    # Experts of 5 neurons in the order of their lift for one function: the first expert holds the two best.
    query = (
        "select row_number() over (partition by layer order by lift desc, neuron) - 1 as place from neuron_scores "
        "where run_id = 'bbbbbbbbbbbbbbbb' and function = 'capital' order by layer, neuron"
    )
    places = Database(store).sql(query).pl()["place"].to_numpy().reshape(2, 200)
    tops = np.random.default_rng(3).integers(0, 50, (2, 2, 5, 1)) * 2 + np.arange(2)
    add_controls(store, "bbbbbbbbbbbbbbbb", {"text": tops, "word": tops + 100}, revision="step1000", step=1000)
    add_partition(store, "1111111111111111", places // 5, revision="step1000", method="function", half="a")
    add_partition(store, "2222222222222222", random_experts(0, 40), revision="step1000", method="random")
    add_partition(store, "3333333333333333", random_experts(1, 40), revision="step0", method="random")
    add_alignment(store)
    add_perturbation_study(store)
    add_series(store)
    add_emergence_study(store)
    return store


@pytest.fixture(scope="session")
def database(filled: Store) -> Database:
    """Return a database over two checkpoints, whose views are made once for all tests."""
    return Database(filled)


@pytest.fixture(scope="session")
def run() -> Callable[..., None]:
    """Return the function that adds a run to a store."""
    return add_run


@pytest.fixture(scope="session")
def partition() -> Callable[..., None]:
    """Return the function that adds a partition to a store."""
    return add_partition


@pytest.fixture(scope="session")
def controls() -> Callable[..., None]:
    """Return the function that adds control functions to a run of a store."""
    return add_controls


@pytest.fixture(scope="session")
def planted() -> Callable[..., dict[str, np.ndarray]]:
    """Return the function that makes scores which rank as planted."""
    return rankings


def scan_filters(database: Database, query: str, *columns: str) -> list[str]:
    """Return the filters of each Parquet scan that reads all these columns, empty where there is none."""
    nodes = json.loads(str(database.sql(f"explain (format json) {query}").rows()[0][1]))
    found = []
    while nodes:
        node = nodes.pop()
        nodes += node["children"]
        information = node["extra_info"]
        if information.get("Function") == "READ_PARQUET" and set(columns) <= set(information["Projections"]):
            given = information.get("Filters", "")
            # The run of a file is concluded from the run of a row; what is optional skips groups of rows alone.
            beside = ("filename", "optional: ")
            of_rows = [
                each for each in ([given] if isinstance(given, str) else given) if not any(b in each for b in beside)
            ]
            found.append(" ".join(of_rows).strip("()"))
    return found


@pytest.fixture
def filters() -> Callable[..., list[str]]:
    """Return the function that finds the filters which reach the files."""
    return scan_filters
