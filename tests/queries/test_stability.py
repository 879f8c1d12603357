"""Stability of neurons, experts and random groups over checkpoints, against scipy and by hand."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise, product

import duckdb
import numpy as np
import pytest
from scipy import stats

from neuronlake.queries import catalog
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

FUNCTIONS = (("one", "a"), ("one", "b"), ("two", "c"))
STEPS = (0, 100, 200, 300)
EXPERTS, GROUPS = "e" * 16, "f" * 16
MISSING = (100, "b")
NO_HALF_B = (200, "a")
CONSTANT = (300, "c")

Rankings = dict[tuple[int, int, str], tuple[np.ndarray, np.ndarray, np.ndarray]]
Run = Callable[..., None]
Planted = Callable[..., dict[str, np.ndarray]]
Scored = tuple[Database, Rankings, dict[str, np.ndarray]]


def run_id(step: int) -> str:
    return f"{step:016d}"


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, run: Run, partition: Run, planted: Planted) -> Scored:
    """Return four checkpoints with many ties, their rankings by (step, layer, function), and two partitions.

    At one step a function is missing, at one it lacks a half, at one all neurons of layer 1 score the same. The random
    groups are of layer 0 alone and leave neurons out.
    """
    store = Store(tmp_path_factory.mktemp("scored") / "store")
    generator = np.random.default_rng(0)
    signal = generator.integers(0, 20, (2, 60, 3))
    found: Rankings = {}
    for step in STEPS:
        functions = tuple(each for each in FUNCTIONS if (step, each[1]) != MISSING)
        columns = [FUNCTIONS.index(each) for each in functions]
        # Multiples of 1/64 are exact as single precision, and so are ties.
        whole, half_a, half_b = ((signal + generator.integers(0, 12, signal.shape))[..., columns] / 64 for _ in "wab")
        for column, (_, function) in enumerate(functions):
            if (step, function) == NO_HALF_B:
                half_b[..., column] = np.nan
            if (step, function) == CONSTANT:
                whole[1, :, column] = 0.25
            for layer in (0, 1):
                found[step, layer, function] = tuple(each[layer, :, column] for each in (whole, half_a, half_b))
        run(
            store, run_id(step), revision=f"step{step}", step=step, weights=f"w{step}", n_neurons=60,
            functions=functions, prevalence=(0.5,) * len(functions), scores=planted(whole, half_a, half_b),
        )  # fmt: skip
    partitions = {
        EXPERTS: np.stack([generator.permutation(60) // 4 for _ in (0, 1)]),
        GROUPS: np.stack([np.where(np.arange(60) < 50, np.arange(60) % 10, -1), np.full(60, -1)]),
    }
    partition(store, EXPERTS, partitions[EXPERTS])
    partition(store, GROUPS, partitions[GROUPS], method="random")
    return Database(store), found, partitions


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    if np.isnan(x).any() or np.isnan(y).any() or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(stats.spearmanr(x, y).statistic)


def units(scores: tuple[np.ndarray, ...], experts: np.ndarray | None) -> list[np.ndarray]:
    """Return the scores of the units: the neurons, or the means of experts."""
    if experts is None:
        return list(scores)
    return [np.asarray([each[experts == expert].mean() for expert in range(experts.max() + 1)]) for each in scores]


def expected(rankings: Rankings, partitions: dict[str, np.ndarray]) -> Iterator[dict[str, object]]:
    """Yield the rows of checkpoint_stability, by scipy."""
    pairs = [(step, "last", 300) for step in STEPS[:-1]]
    pairs += [(step, "previous", before) for before, step in pairwise(STEPS)]
    levels = [("*", 0), ("*", 1), (EXPERTS, 0), (EXPERTS, 1), (GROUPS, 0)]
    for (step, reference, other_step), (partition_id, layer), family in product(pairs, levels, ("one", "two")):
        experts = None if partition_id == "*" else partitions[partition_id][layer]
        correlations, halves = [], []
        for function in (function for each, function in FUNCTIONS if each == family):
            keys = ((step, layer, function), (other_step, layer, function))
            if not all(key in rankings for key in keys):
                continue
            (whole, a, b), (other, other_a, other_b) = (units(rankings[key], experts) for key in keys)
            correlations.append(spearman(whole, other))
            cross = (spearman(a, other_b) + spearman(b, other_a)) / 2
            halves.append((spearman(a, b), spearman(other_a, other_b), cross))
        is_defined = [not math.isnan(each) for each in correlations]
        whole_halves = [each for each in halves if not any(map(math.isnan, each))]
        split, other_split, cross = np.mean(whole_halves, axis=0) if whole_halves else (None,) * 3
        ceiling = math.sqrt(4 * split * other_split / (1 + split) / (1 + other_split)) if whole_halves else None
        yield {
            "step": step,
            "reference": reference,
            "reference_run_id": run_id(other_step),
            "reference_step": other_step,
            "level": {"*": "neuron", EXPERTS: "expert", GROUPS: "random_group"}[partition_id],
            "partition_id": partition_id,
            "layer": layer,
            "family": family,
            "n_functions": sum(is_defined),
            "n_units": 60 if experts is None else experts.max() + 1,
            "correlation": float(np.mean(np.asarray(correlations)[is_defined])) if any(is_defined) else None,
            "split_half_correlation": split,
            "reference_split_half_correlation": other_split,
            "ceiling": ceiling,
            "cross_half_correlation": cross,
            "corrected_correlation": cross / math.sqrt(split * other_split) if ceiling and ceiling >= 0.3 else None,
        }


def test_correlations_are_those_of_scipy(scored: Scored) -> None:
    database, rankings, partitions = scored
    keys = ("step", "reference", "partition_id", "layer", "family")
    found = {tuple(row[key] for key in keys): row for row in database.sql("from checkpoint_stability")}
    rows = list(expected(rankings, partitions))
    assert len(found) == len(rows) == 6 * 5 * 2
    for row in rows:
        view = found[tuple(row[key] for key in keys)]
        assert {name: view[name] for name in row} == {
            name: pytest.approx(value, abs=1e-12) if isinstance(value, float) else value for name, value in row.items()
        }
    # What the fixture plants does occur.
    assert [found[200, "last", "*", 0, "one"]["n_functions"], found[100, "last", "*", 0, "one"]["n_functions"]] == [
        2,
        1,
    ]
    assert found[200, "last", "*", 1, "two"]["correlation"] is None


def test_a_curve_is_the_mean_over_the_layers(scored: Scored) -> None:
    database = scored[0]
    of_layers = [row for row in database.sql("from checkpoint_stability") if row["family"] == "one"]
    curves = list(database.sql("from stability_curves where family = 'one'"))
    # Of these two, one lacks function b and the other a half of function a.
    assert {row["step"] for row in curves if row["cross_half_correlation"] is None} == {200}
    for curve in (row for row in curves if row["cross_half_correlation"] is not None):
        keys = ("run_id", "reference", "level")
        layers = [row for row in of_layers if all(row[key] == curve[key] for key in keys)]
        if curve["partition_id"] == GROUPS:
            layers = [row for row in layers if row["layer"] == 0]
        assert (curve["n_layers"], curve["n_units"]) == (len(layers), sum(row["n_units"] for row in layers))
        names = ("correlation", "split_half_correlation", "reference_split_half_correlation", "cross_half_correlation")
        mean, split, other_split, cross = (np.mean([row[name] for row in layers]) for name in names)
        assert curve["correlation"] == pytest.approx(mean, abs=1e-12)
        assert curve["corrected_correlation"] == pytest.approx(cross / math.sqrt(split * other_split), abs=1e-12)
        assert curve["ceiling"] == pytest.approx(
            math.sqrt(4 * split * other_split / (1 + split) / (1 + other_split)), abs=1e-12
        )


def test_all_curves_of_a_partition_have_the_same_layers(
    scored: Scored,
) -> None:
    query = (
        "select distinct partition_id, level, family, n_layers, method, count(*) from stability_curves "
        "group by all order by all"
    )
    # Of family two, layer 1 has no correlation at the last step.
    assert scored[0].sql(query).rows() == [
        ("*", "neuron", "one", 2, None, 6),
        ("*", "neuron", "two", 1, None, 6),
        (EXPERTS, "expert", "one", 2, "kmeans", 6),
        (EXPERTS, "expert", "two", 1, "kmeans", 6),
        (EXPERTS, "neuron", "one", 2, None, 6),
        (EXPERTS, "neuron", "two", 1, None, 6),
        (GROUPS, "neuron", "one", 1, None, 6),
        (GROUPS, "neuron", "two", 1, None, 6),
        (GROUPS, "random_group", "one", 1, "random", 6),
        (GROUPS, "random_group", "two", 1, "random", 6),
    ]


@pytest.mark.parametrize("view", ["checkpoint_stability", "stability_curves", "stabilization_steps"])
def test_a_filter_gives_what_the_view_has_in_the_whole(scored: Scored, view: str) -> None:
    for condition in (f"partition_id = '{GROUPS}'", f"model = 'tiny' and last_run_id = '{run_id(300)}'"):
        whole = scored[0].sql(f"select * from (from {view} order by all) where {condition}").rows()
        assert scored[0].sql(f"from {view} where {condition} order by all").rows() == whole
        assert whole


@pytest.mark.parametrize(
    ("condition", "columns", "scans"),
    [
        ("model = 'tiny'", ("neuron", "function"), 2),
        ("family = 'one'", ("neuron", "function"), 2),
        ("layer = 1", ("neuron", "function"), 2),
        (f"partition_id = '{EXPERTS}'", ("expert", "partition_id"), 1),
    ],
)
def test_a_filter_reaches_the_files(
    store: Store, run: Run, partition: Run, filters: Callable[..., list[str]],
    condition: str, columns: tuple[str, ...], scans: int,
) -> None:  # fmt: skip
    for model, step in product(("tiny", "other"), (0, 1)):
        run(
            store, f"{model:>15}{step}", model=model, revision=f"step{step}", step=step, n_neurons=10,
            functions=FUNCTIONS, prevalence=(0.5,) * 3,
        )  # fmt: skip
    partition(store, EXPERTS, np.arange(20).reshape(2, 10) % 5)
    partition(store, GROUPS, np.arange(20).reshape(2, 10) % 4)
    found = filters(Database(store), f"from checkpoint_stability where {condition}", *columns)
    assert (len(found), set(found)) == (scans, {condition})


@pytest.mark.parametrize(
    ("settings", "is_in"),
    [
        ({}, True),
        ({"is_random_init": True}, False),
        ({"measurement": "imported"}, False),
        ({"step": None}, False),
        ({"model": "another"}, False),
        ({"corpus": "others"}, False),
        ({"corpus_sha256": "dd"}, False),
        ({"site": "gate"}, False),
        ({"pooling": "mean"}, False),
        ({"router": "blind"}, False),
        ({"dtype": "bfloat16"}, False),
        ({"storage": "float16"}, False),
        ({"max_tokens": 64}, False),
        ({"layers": "0"}, False),
    ],
)
def test_a_series_is_measured_runs_that_differ_in_step_alone(
    store: Store, run: Run, settings: dict[str, object], is_in: bool
) -> None:
    small = {"n_layers": 1, "n_neurons": 8, "functions": FUNCTIONS[:1], "prevalence": (0.5,), "layers": None}
    run(store, "a" * 16, revision="step1", step=1, weights="w1", **small)
    run(store, "b" * 16, revision="step3", step=3, weights="w3", **small)
    run(store, "c" * 16, **{"revision": "step2", "step": 2, "weights": "w2", **small, **settings})
    query = "select distinct run_id, reference_run_id from checkpoint_stability where reference = 'previous'"
    names = [(row[0][0], row[1][0]) for row in Database(store).sql(f"{query} order by all").rows()]
    assert names == ([("b", "c"), ("c", "a")] if is_in else [("b", "a")])


def test_of_several_revisions_of_a_step_the_first_by_name_is_in_the_series(store: Store, run: Run) -> None:
    small = {"n_layers": 1, "n_neurons": 8, "functions": FUNCTIONS[:1], "prevalence": (0.5,)}
    for name, revision, step in (("c", "main", 2), ("b", "step2", 2), ("a", "step1", 1)):
        run(store, name * 16, revision=revision, step=step, weights=revision, **small)
    query = "select revision, last_run_id, reference, reference_revision, has_same_weights from checkpoint_stability"
    assert Database(store).sql(f"{query} order by all").rows() == [
        ("main", "c" * 16, "previous", "step1", False),
        ("step1", "c" * 16, "last", "main", False),
    ]


def test_twins_are_marked_and_left_out_of_the_steps(store: Store, run: Run) -> None:
    small = {"n_layers": 1, "n_neurons": 30, "functions": FUNCTIONS[:1], "prevalence": (0.5,)}
    for step, weights in ((1, "w1"), (2, "w1"), (3, "w3"), (4, "w4")):
        run(store, run_id(step), revision=f"step{step}", step=step, weights=weights, seed=step, **small)
    database = Database(store)
    for view in ("checkpoint_stability", "stability_curves"):
        query = f"select step from {view} where reference = 'previous' and has_same_weights"
        assert database.sql(query).rows() == [(2,)]
    query = "select distinct reference, n_checkpoints from stabilization_steps where not is_corrected order by all"
    assert database.sql(query).rows() == [("last", 3), ("previous", 2)]


def test_layers_of_another_width_are_not_compared(store: Store, run: Run, partition: Run) -> None:
    small = {"n_layers": 1, "functions": FUNCTIONS[:1], "prevalence": (0.5,)}
    for step, width in ((1, 20), (2, 20), (3, 30), (4, 30)):
        run(store, run_id(step), revision=f"step{step}", step=step, n_neurons=width, seed=step, **small)
    partition(store, EXPERTS, np.arange(30)[None] % 6)
    query = "select level, step, reference, reference_step, n_units from checkpoint_stability order by all"
    assert Database(store).sql(query).rows() == [
        ("expert", 3, "last", 4, 6),
        ("expert", 4, "previous", 3, 6),
        ("neuron", 2, "previous", 1, 20),
        ("neuron", 3, "last", 4, 30),
        ("neuron", 4, "previous", 3, 30),
    ]


@pytest.mark.parametrize(
    ("split_half", "other", "ceiling", "corrected"),
    [
        (0.5, 0.5, 2 / 3, 0.8),
        (1.0, 0.25, math.sqrt(0.4), 0.8),
        (0.05, 0.05, 0.1 / 1.05, None),
        (0.0, 0.9, None, None),
        (-0.1, -0.1, None, None),
        (None, 0.9, None, None),
    ],
)
def test_a_correlation_is_corrected_where_there_is_signal(
    split_half: float | None, other: float, ceiling: float | None, corrected: float | None
) -> None:
    with Database("unused") as database:
        query = "select noise_ceiling(?, ?), disattenuated(.4, ?, ?)"
        found = database.sql(query, [split_half, other, split_half, other]).rows()[0]
    assert found == (
        ceiling and pytest.approx(ceiling),
        corrected and pytest.approx(0.4 / math.sqrt(split_half * other)),
    )


def steps_of(curve: list[tuple[int, float | None]], threshold: float, *, twins: tuple[int, ...] = ()) -> tuple:
    """Return what stabilization_steps says of one curve: first, whether censored, lasting, whether censored, points."""
    connection = duckdb.connect()
    connection.execute(catalog.macros())
    connection.execute(
        "create table stability_curves as select 'last' as last_run_id, 'tiny' as model, 'words' as corpus, "
        "'previous' as reference, '*' as partition_id, null::bigint as partition_step, 'neuron' as level, "
        "null::varchar as method, 'encoder' as stack, 'one' as family, 0.0::double as correlation, "
        "unnest(?)::bigint as step, 'step' || step as revision, unnest(?)::double as corrected_correlation, "
        "unnest(?)::boolean as has_same_weights",
        [[step for step, _ in curve], [value for _, value in curve], [step in twins for step, _ in curve]],
    )
    query = (
        "select first_step, is_censored, lasting_step, is_lasting_censored, n_checkpoints "
        f"from ({catalog.view('stabilization_steps').sql}) where is_corrected and threshold = {threshold}"
    )
    (row,) = connection.execute(query).fetchall()
    return row


@pytest.mark.parametrize(
    ("curve", "threshold", "found"),
    [
        # Between 10 and 20, halfway.
        ([(10, 0.8), (20, 1.0), (30, 1.0)], 0.9, (15, False, 15, False, 3)),
        # Reached at a checkpoint.
        ([(10, 0.0), (20, 0.5), (30, 1.0)], 0.5, (20, False, 20, False, 3)),
        # There from the first checkpoint on.
        ([(10, 0.9), (20, 1.0)], 0.9, (10, True, 10, True, 2)),
        # As with log-spaced steps: high, down, and up again.
        ([(1, 0.99), (2, 0.95), (4, 0.3), (8, 0.5), (16, 0.9)], 0.7, (1, True, 12, False, 5)),
        # Reached, left, reached for good.
        ([(10, 0.0), (20, 1.0), (30, 0.0), (40, 1.0)], 0.5, (15, False, 35, False, 4)),
        # Reached but not at the end.
        ([(10, 0.0), (20, 1.0), (30, 0.5)], 0.8, (18, False, None, False, 3)),
        # Never reached.
        ([(10, 0.1), (20, 0.2)], 0.5, (None, False, None, False, 2)),
        # A checkpoint without a value is no point of the curve.
        ([(10, 0.0), (20, None), (30, 1.0)], 0.5, (20, False, 20, False, 2)),
        ([(10, None), (20, 0.9)], 0.5, (20, True, 20, True, 1)),
        ([(10, None)], 0.5, (None, False, None, False, 0)),
    ],
)
def test_a_threshold_is_reached_between_two_checkpoints(
    curve: list[tuple[int, float | None]], threshold: float, found: tuple[object, ...]
) -> None:
    first, is_censored, lasting, is_lasting_censored, n_checkpoints = steps_of(curve, threshold)
    approximate = tuple(step if step is None else pytest.approx(step) for step in (found[0], found[2]))
    assert (first, lasting) == approximate
    assert (is_censored, is_lasting_censored, n_checkpoints) == (found[1], found[3], found[4])


def test_the_order_of_rows_does_not_matter_and_twins_do_not_count() -> None:
    curve = [(40, 1.0), (10, 0.0), (30, 0.0), (20, 0.0)]
    assert steps_of(curve, 0.5, twins=(30,)) == (pytest.approx(30), False, pytest.approx(30), False, 3)
