"""Views that read what comes first where it is stored and compute it where it is not: both ways, and mixed."""

from collections.abc import Callable
from unittest.mock import MagicMock

import numpy as np

import neuronlake
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

QUERIES = (
    "from family_best order by all",
    "from specialization order by all",
    *(f"from {view}_by('{ranking}') order by all" for view in ("top_neurons", "held_out_top_neurons")
      for ranking in ("lift", "predictivity")),
)  # fmt: skip
SIZE = 2 * 200 * 5


def coarse(seed: int) -> dict[str, np.ndarray]:
    """Return scores of few values, so that ties abound, and halves that are NULL for one function in five."""
    generator = np.random.default_rng(seed)
    scores = {"p_value": generator.choice([1e-6, 0.01, 0.2, 1], SIZE)}
    for name in ("ap", "ap_complement"):
        scores[name] = generator.choice([0.125, 0.5, 0.75], SIZE)
        for half in ("half_a", "half_b"):
            scores[f"{name}_{half}"] = generator.choice([0.125, 0.5, 0.75], SIZE)
    for half, function in (("half_a", 1), ("half_b", 3)):
        for name in ("ap", "ap_complement"):
            scores[f"{name}_{half}"][np.arange(SIZE) % 5 == function] = np.nan
    return scores


def answers(store: Store) -> list[list[tuple[object, ...]]]:
    with Database(store) as database:
        return [database.sql(query).rows() for query in QUERIES]


def test_stored_mixed_and_live_answers_are_the_same(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16, scores=coarse(0))
    run(store, "b" * 16, revision="random-0")
    run(store, "c" * 16, revision="published", with_prevalence=False, scores=dict.fromkeys(
        ("ap_complement", "ap_half_a", "ap_half_b", "ap_complement_half_a", "ap_complement_half_b")))  # fmt: skip
    other = Store(store.path.parent / "mixed")
    run(other, "b" * 16, revision="random-0")
    assert neuronlake.add_best(other.path) == ("b" * 16,)
    run(other, "a" * 16, scores=coarse(0))
    run(other, "c" * 16, revision="published", with_prevalence=False, scores=dict.fromkeys(
        ("ap_complement", "ap_half_a", "ap_half_b", "ap_complement_half_a", "ap_complement_half_b")))  # fmt: skip
    live = answers(store)
    assert all(live)
    assert answers(other) == live
    assert set(neuronlake.add_best(other.path)) == {"a" * 16, "c" * 16}
    assert answers(other) == live
    assert neuronlake.add_best(other.path) == ()
    assert not other.check()


def test_what_is_stored_is_read_without_the_scores(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16)
    neuronlake.add_best(store.path)
    expected = answers(store)
    for file in store.files("neuron_functions"):
        file.unlink()
    assert answers(store) == expected


def test_a_run_without_some_scores_is_left_to_the_views_and_stops_no_other(
    store: Store, run: Callable[..., None]
) -> None:
    neuron = np.arange(SIZE) // 5 % 200
    run(store, "a" * 16, scores={"neuron": np.where(neuron == 199, 200, neuron)})
    run(store, "b" * 16, revision="random-0")
    live, progress = answers(store), MagicMock()
    assert neuronlake.add_best(store.path, progress=progress) == ("b" * 16,)
    (note,) = progress.note.call_args.args
    assert note.startswith(f"run {'a' * 16} lacks scores of some neurons of encoder layer 0")
    assert answers(store) == live
