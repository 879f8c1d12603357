"""Stability that is stored: the views answer as if they had computed it, and nothing is computed twice."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuronlake.analysis.emergence import stability as stability_module
from neuronlake.analysis.emergence.series import find_series
from neuronlake.progress import SilentProgress
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store
from neuronlake.schema.tables import TABLES

EXPERTS, GROUPS = "e" * 16, "f" * 16
SCORES = ("ap", "ap_complement", "ap_half_a", "ap_half_b", "ap_complement_half_a", "ap_complement_half_b")
FUNCTIONS = (("one", "a"), ("one", "b"), ("two", "a"), ("two", "c"))


def run_id(step: int) -> str:
    return f"{step:016d}"


@pytest.fixture(scope="module")
def add(run: Callable[..., None]) -> Callable[[Store, int], None]:
    """Return the function that adds a checkpoint of two layers, in which ever more neurons are dead."""

    def make(store: Store, step: int) -> None:
        dead = np.random.default_rng(7).random((2, 24)) < 0.1 * step
        run(
            store, run_id(step), revision=f"step{step}", step=step, weights=f"w{step}", n_neurons=24, seed=step,
            functions=FUNCTIONS, prevalence=(0.5, 0.3, 0.5, 0.1), dead=dead,
        )  # fmt: skip

    return make


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, add: Callable[[Store, int], None], partition: Callable[..., None]
) -> Store:
    """Return a store of three checkpoints, with experts, and random groups of one layer; do not write to it."""
    store = Store(tmp_path_factory.mktemp("made") / "store")
    for step in (1, 2, 3):
        add(store, step)
    partition(store, EXPERTS, np.arange(48).reshape(2, 24) % 6)
    partition(store, GROUPS, np.stack([np.arange(24) % 5, np.full(24, -1)]), method="random")
    return store


@pytest.fixture(scope="module")
def computed(made: Store) -> list[tuple[object, ...]]:
    """Return what the view computes of it."""
    return rows(made)


@pytest.fixture
def series(made: Store, tmp_path: Path) -> Store:
    """Return a copy of it, to be written to."""
    return Store(shutil.copytree(made.path, tmp_path / "store"))


def store_stability(store: Store, *partition_ids: str) -> bool:
    with Database(store) as database:
        return stability_module.store_stability(
            database, find_series(database, "tiny"), partition_ids, SilentProgress()
        )


def rows(store: Store, query: str = "from function_stability") -> list[tuple[object, ...]]:
    with Database(store) as database:
        return database.sql(f"select * from ({query}) order by all").rows()


UNSTORED = "select distinct run_id, reference_run_id, partition_id from unstored_stability"


def test_the_view_has_what_is_stored_and_computes_the_rest_to_the_same_numbers(
    series: Store, computed: list[tuple[object, ...]]
) -> None:
    # Four comparisons; neurons and experts of two layers, groups of one.
    assert len(computed) == 4 * 5 * len(FUNCTIONS)
    assert store_stability(series, EXPERTS)
    assert {partition_id for *_, partition_id in rows(series, UNSTORED)} == {GROUPS}
    assert rows(series) == computed
    assert store_stability(series, EXPERTS, GROUPS)
    assert rows(series, UNSTORED) == []
    assert rows(series) == computed
    n_files = len(series.files("stabilities"))
    assert not store_stability(series, EXPERTS, GROUPS)
    assert len(series.files("stabilities")) == n_files


def test_a_checkpoint_more_lacks_its_own_comparisons_alone(series: Store, add: Callable[[Store, int], None]) -> None:
    store_stability(series, EXPERTS, GROUPS)
    add(series, 4)
    lacking = {(run_id(step), run_id(4)) for step in (1, 2, 3)} | {(run_id(4), run_id(3))}
    assert {pair[:2] for pair in rows(series, UNSTORED)} == lacking
    computed = rows(series)
    assert store_stability(series, EXPERTS, GROUPS)
    assert (rows(series), rows(series, UNSTORED)) == (computed, [])


def test_batches_of_layers_are_all_of_them(
    series: Store, computed: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stability_module, "_BATCH_SCORES", 1)
    store_stability(series, EXPERTS, GROUPS)
    # Of each checkpoint in each of two layers.
    assert len(series.files("stabilities")) == 3 * 2
    assert (rows(series), rows(series, UNSTORED)) == (computed, [])


def test_rows_are_those_of_the_view_to_the_last_bit(
    store: Store, run: Callable[..., None], partition: Callable[..., None]
) -> None:
    shape, generator = (2, 24, 4), np.random.default_rng(0)
    for step in range(1, 7):
        scores = {name: generator.normal(0.5, 0.05, shape).round(step).astype(np.float32) for name in SCORES}
        if step == 3:
            scores["ap"][:, :, 0] = scores["ap_complement"][:, :, 0] = 0.5  # all units score the same
            scores["ap_half_a"][:, :, 1] = np.nan  # the half lacks a class
            scores["ap_half_b"][:, 5, 2] = np.nan
        dead = np.random.default_rng(step).random((2, 24)) < 0.3
        dead[1] |= step == 4  # a whole layer
        width = 20 if step == 5 else 24
        run(
            store, run_id(step), revision=f"step{step}", step=step, weights=f"w{step}", n_neurons=width,
            functions=FUNCTIONS, prevalence=(0.5, 0.3, 0.5, 0.1), dead=None if step == 2 else dead[:, :width],
            scores={name: each[:, :width].reshape(-1) for name, each in scores.items()},
        )  # fmt: skip
    run(
        store, run_id(9), revision="step3 again", step=3, weights="w3", n_neurons=24,
        functions=FUNCTIONS, prevalence=(0.5, 0.3, 0.5, 0.1),
    )  # fmt: skip
    partition(store, EXPERTS, np.arange(48).reshape(2, 24) % 6)
    partition(store, GROUPS, np.where(np.arange(48) % 3 == 0, -1, np.arange(48) % 7).reshape(2, 24), method="random")
    columns = ", ".join(TABLES["stabilities"].column_names)
    computed = rows(store, f"select {columns} from unstored_stability")
    # Step 5, of another width, is compared with none.
    assert len(computed) == (1 + 2 + 2 + 2) * 3 * 2 * len(FUNCTIONS)
    assert store_stability(store, EXPERTS, GROUPS)
    assert rows(store, "from stabilities") == computed


def test_a_killed_job_goes_on_with_what_it_staged(
    series: Store, computed: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    conform, n_made = stability_module.conform, 0

    def killed(*arguments: object, **constants: object) -> object:
        nonlocal n_made
        n_made += 1
        if n_made == 3:
            raise KeyboardInterrupt
        return conform(*arguments, **constants)  # type: ignore[arg-type]

    monkeypatch.setattr(stability_module, "_BATCH_SCORES", 1)
    monkeypatch.setattr(stability_module, "conform", killed)
    with pytest.raises(KeyboardInterrupt):
        store_stability(series, EXPERTS)
    assert not series.files("stabilities")
    assert store_stability(series, EXPERTS)
    # Two of six were staged.
    assert n_made == 3 + 4
    assert rows(series) == computed
