"""Which checkpoints a series lacks, and which have the weights of another."""

from collections.abc import Callable

import pyarrow as pa
import pytest

from neuronlake.queries.database import Database
from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

LISTED_AT = 0


def add_tensors(
    store: Store, run_id: str, revision: str, tensors: dict[str, tuple[str, int]], model: str = "tiny"
) -> None:
    """Commit the digests of a run's tensors: name, digest and numbers of each."""
    rows = [
        {
            "run_id": run_id, "model": model, "revision": revision, "step": None,
            "tensor": name, "sha256": sha256, "n_values": n_values,
        }
        for name, (sha256, n_values) in tensors.items()
    ]  # fmt: skip
    with store.job(f"tensors-{run_id}", kind="run") as job:
        job.write("weight_tensors", pa.Table.from_pylist(rows, schema=arrow_schema(table("weight_tensors"))))
        job.commit()


def add_weights(
    store: Store,
    run_id: str,
    revision: str,
    tensors: dict[str, tuple[str, int]],
    *,
    dtype: str = "float32",
    is_random_init: bool = False,
) -> None:
    """Commit a run of which nothing but its weights is known."""
    row = {
        "run_id": run_id, "model": "tiny", "revision": revision, "measurement": "measured", "weights_sha256": run_id,
        "is_random_init": is_random_init, "dtype": dtype, "neuronlake_version": "", "python_version": "",
        "started_at": 0, "duration_s": 0.0,
    }  # fmt: skip
    with store.job(run_id, kind="run") as job:
        job.write("runs", pa.Table.from_pylist([row], schema=arrow_schema(table("runs"))))
        job.commit()
    add_tensors(store, run_id, revision, tensors)


def list_checkpoints(
    store: Store, *checkpoints: tuple[str, int | None], model: str = "tiny", listed_at: int = LISTED_AT
) -> None:
    rows = [
        {"model": model, "revision": revision, "step": step, "source": "hub", "listed_at": listed_at}
        for revision, step in checkpoints
    ]
    with store.job(f"checkpoints-{model}-{listed_at}", kind="checkpoints") as job:
        job.write("checkpoints", pa.Table.from_pylist(rows, schema=arrow_schema(table("checkpoints"))))
        job.commit()


@pytest.fixture
def identity(store: Store) -> Callable[[str], list[tuple[object, ...]]]:
    """Return a function that asks for columns of checkpoint_identity, sorted."""

    def ask(columns: str) -> list[tuple[object, ...]]:
        return Database(store).sql(f"select {columns} from checkpoint_identity order by all").rows()

    return ask


def test_a_checkpoint_that_is_listed_and_not_measured_is_a_gap(store: Store, run: Callable[..., None]) -> None:
    size = {"n_layers": 1, "n_neurons": 20, "functions": (("task", "a"),), "prevalence": (0.5,)}
    run(store, "a" * 16, revision="step0", step=0, **size)
    run(store, "b" * 16, revision="step2", step=2, **size)
    list_checkpoints(store, ("step0", 0), ("step1", 1), ("main", None))
    list_checkpoints(store, ("step0", 0), model="never measured")
    query = "select model, revision, step, run_id, n_neurons_held, is_complete from coverage order by step, revision"
    assert Database(store).sql(query).rows() == [
        ("tiny", "step0", 0, "a" * 16, 20, True),
        ("tiny", "step1", 1, None, 0, False),
        ("tiny", "step2", 2, "b" * 16, 20, True),
        ("tiny", "main", None, None, 0, False),
    ]


def test_a_checkpoint_listed_with_its_step_has_it_though_its_run_has_none(
    store: Store, run: Callable[..., None]
) -> None:
    run(store, "a" * 16, revision="main", n_layers=1, n_neurons=5, functions=(("task", "a"),), prevalence=(0.5,))
    list_checkpoints(store, ("main", 9))
    assert Database(store).sql("select revision, step from coverage").rows() == [("main", 9)]


def test_functions_that_a_run_leaves_out_for_few_instances_are_none_that_it_lacks(
    store: Store, run: Callable[..., None]
) -> None:
    size = {"n_layers": 1, "n_neurons": 5}
    run(store, "a" * 16, functions=(("task", "a"), ("task", "b")), prevalence=(0.5, 0.02), **size)
    run(store, "b" * 16, functions=(("task", "a"),), prevalence=(0.5,), min_instances=25, **size)
    query = "select min_instances, function, run_id, is_complete from coverage order by all"
    assert Database(store).sql(query).rows() == [
        (0, "a", "a" * 16, True),
        (0, "b", "a" * 16, True),
        (25, "a", "b" * 16, True),
    ]


def test_of_what_is_listed_the_latest_step_counts_and_a_run_has_its_own(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16, revision="x", step=4, n_layers=1, n_neurons=5, functions=(("task", "a"),), prevalence=(0.5,))
    list_checkpoints(store, ("y", 8), listed_at=1)
    list_checkpoints(store, ("x", 9), ("y", 6), listed_at=2)
    list_checkpoints(store, ("x", 9), ("y", 7), ("z", None), listed_at=0)
    query = "select revision, step from coverage order by revision"
    assert Database(store).sql(query).rows() == [("x", 4), ("y", 6), ("z", None)]


def test_checkpoints_of_equal_weights_are_identical_with_or_without_digests_of_tensors(
    store: Store, run: Callable[..., None], identity: Callable[[str], list[tuple[object, ...]]]
) -> None:
    for letter, revision, weights in (("a", "x", "same"), ("b", "y", "same"), ("c", "z", "own")):
        run(store, letter * 16, revision=revision, weights=weights, n_neurons=5)
    run(store, "d" * 16, model="other", weights="same", n_neurons=5)
    add_tensors(store, "a" * 16, "x", {"one": ("1", 30), "two": ("2", 10)})
    columns = "model, revision, twin_model, twin_revision, kind, n_tensors, n_equal_tensors, share_equal"
    assert identity(columns) == [
        ("other", "main", "tiny", "x", "identical", None, None, None),
        ("other", "main", "tiny", "y", "identical", None, None, None),
        ("tiny", "x", "other", "main", "identical", 2, 2, 1.0),
        ("tiny", "x", "tiny", "y", "identical", 2, 2, 1.0),
        ("tiny", "y", "other", "main", "identical", None, None, None),
        ("tiny", "y", "tiny", "x", "identical", None, None, None),
    ]


def test_a_checkpoint_with_tensors_of_another_is_mixed_and_constants_are_no_sign(
    store: Store, run: Callable[..., None], identity: Callable[[str], list[tuple[object, ...]]]
) -> None:
    tensors = {
        "x": {"rotary": ("0", 99), "one": ("1x", 30), "two": ("2x", 10), "three": ("3x", 10)},
        "y": {"rotary": ("0", 99), "one": ("1y", 30), "two": ("2y", 10), "three": ("3y", 10)},
        "z": {"rotary": ("0", 99), "one": ("1y", 30), "two": ("2z", 10), "three": ("3z", 10)},
    }
    for letter, (revision, each) in zip("abc", tensors.items(), strict=True):
        run(store, letter * 16, revision=revision, step=ord(letter), weights=f"w{revision}", n_neurons=5)
        add_tensors(store, letter * 16, revision, each)
    columns = "revision, step, run_id, weights_sha256, twin_revision, twin_step, twin_weights_sha256"
    assert identity(columns) == [
        ("y", 98, "b" * 16, "wy", "z", 99, "wz"),
        ("z", 99, "c" * 16, "wz", "y", 98, "wy"),
    ]
    assert identity("kind, n_tensors, n_equal_tensors, share_equal") == [("mixed", 3, 1, 0.6)] * 2


def test_the_tensors_of_other_models_are_not_compared(
    store: Store, run: Callable[..., None], identity: Callable[[str], list[tuple[object, ...]]]
) -> None:
    for letter, model, revision in (("a", "tiny", "x"), ("b", "tiny", "y"), ("c", "other", "x"), ("d", "other", "y")):
        run(store, letter * 16, model=model, revision=revision, weights=letter, n_neurons=5)
        add_tensors(store, letter * 16, revision, {"one": (revision, 1), "two": (letter, 1)}, model=model)
    assert identity("*") == []


def test_two_measurements_of_one_checkpoint_are_no_twins(
    store: Store, run: Callable[..., None], identity: Callable[[str], list[tuple[object, ...]]]
) -> None:
    for letter, weights in (("a", "w"), ("b", "w"), ("c", "changed")):
        run(store, letter * 16, revision="x", weights=weights, n_neurons=5)
        add_tensors(store, letter * 16, "x", {"one": ("1", 1), "two": (weights, 1)})
    run(store, "d" * 16, revision="y", weights="y", n_neurons=5)
    add_tensors(store, "d" * 16, "y", {"one": ("1y", 1), "two": ("2y", 1)})
    assert identity("*") == []


def test_weights_of_other_types_are_not_compared(
    store: Store, identity: Callable[[str], list[tuple[object, ...]]]
) -> None:
    # A norm that stays float32 whatever the type of the others.
    add_weights(store, "a", "x", {"norm": ("same", 1), "one": ("1x", 1)})
    add_weights(store, "b", "y", {"norm": ("other", 1), "one": ("1y", 1)})
    add_weights(store, "c", "z", {"norm": ("same", 1), "one": ("1z", 1)}, dtype="bfloat16")
    assert identity("*") == []


def test_random_initialisations_that_begin_with_equal_norms_are_not_mixed(
    store: Store, identity: Callable[[str], list[tuple[object, ...]]]
) -> None:
    add_weights(store, "a", "main", {"norm": ("trained", 1), "one": ("1x", 1)})
    for letter in "bc":
        add_weights(store, letter, letter, {"norm": ("ones", 1), "one": (letter, 1)}, is_random_init=True)
    assert identity("*") == []
