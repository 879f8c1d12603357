"""Stability of neurons, experts and random groups over checkpoints, against scipy and by hand."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise, product

import numpy as np
import pytest
from scipy import stats

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

pytestmark = pytest.mark.long

FUNCTIONS = (("one", "a"), ("one", "b"), ("one", "c"), ("one", "d"), ("one", "e"), ("two", "f"))
STEPS = (0, 100, 200, 300)
EXPERTS, GROUPS = "e" * 16, "f" * 16
MISSING = (100, "b")
NO_HALF_B = (200, "a")
CONSTANT = (300, "f")

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
    signal = generator.integers(0, 20, (2, 60, 6))
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
    """Yield the rows of function_stability, by scipy."""
    pairs = [(step, "last", 300) for step in STEPS[:-1]]
    pairs += [(step, "previous", before) for before, step in pairwise(STEPS)]
    levels = [("*", 0), ("*", 1), (EXPERTS, 0), (EXPERTS, 1), (GROUPS, 0)]
    for (step, reference, other_step), (partition_id, layer), (family, function) in product(pairs, levels, FUNCTIONS):
        experts = None if partition_id == "*" else partitions[partition_id][layer]
        keys = ((step, layer, function), (other_step, layer, function))
        if not all(key in rankings for key in keys):
            continue
        (whole, a, b), (other, other_a, other_b) = (units(rankings[key], experts) for key in keys)
        found = {
            "correlation": spearman(whole, other),
            "split_half_correlation": spearman(a, b),
            "reference_split_half_correlation": spearman(other_a, other_b),
            "cross_half_correlation": (spearman(a, other_b) + spearman(b, other_a)) / 2,
        }
        yield {
            "step": step,
            "reference": reference,
            "reference_run_id": run_id(other_step),
            "reference_step": other_step,
            "level": {"*": "neuron", EXPERTS: "expert", GROUPS: "random_group"}[partition_id],
            "partition_id": partition_id,
            "layer": layer,
            "family": family,
            "function": function,
            "n_units": 60 if experts is None else experts.max() + 1,
            **{name: None if math.isnan(value) else value for name, value in found.items()},
        }


def test_correlations_are_those_of_scipy(scored: Scored) -> None:
    database, rankings, partitions = scored
    keys = ("step", "reference", "partition_id", "layer", "function")
    found = {tuple(row[key] for key in keys): row for row in database.sql("from function_stability")}
    rows = list(expected(rankings, partitions))
    # Of function b there are three checkpoints, of the others four.
    assert len(found) == len(rows) == 5 * (5 * 6 + 3)
    for row in rows:
        view = found[tuple(row[key] for key in keys)]
        assert {name: view[name] for name in row} == {
            name: pytest.approx(value, abs=1e-12) if isinstance(value, float) else value for name, value in row.items()
        }
    # What the fixture plants does occur.
    assert found[200, "last", "*", 0, "a"]["split_half_correlation"] is None
    assert found[200, "last", "*", 1, "f"]["correlation"] is None


def mean(rows: list[dict], name: str) -> float | None:
    return float(np.mean([row[name] for row in rows])) if rows else None


def corrected(rows: list[dict]) -> float:
    """Return the quotient of means over rows."""
    product_of_halves = mean(rows, "split_half_correlation") * mean(rows, "reference_split_half_correlation")
    return mean(rows, "cross_half_correlation") / math.sqrt(product_of_halves)


def means(rows: list[dict], halved: list[dict], units_less_layers: int) -> dict[str, object]:
    """Return what the views compute from rows of function_stability that are averaged, and those with all halves."""
    split, other_split = (mean(halved, f"{prefix}split_half_correlation") for prefix in ("", "reference_"))
    least = max(0.18, 2 / math.sqrt(units_less_layers))
    found = {
        "correlation": mean(rows, "correlation"),
        "split_half_correlation": split,
        "reference_split_half_correlation": other_split,
        "cross_half_correlation": mean(halved, "cross_half_correlation"),
        "ceiling": math.sqrt(4 * split * other_split / (1 + split) / (1 + other_split)) if halved else None,
        "corrected_correlation": corrected(halved) if halved and min(split, other_split) >= least else None,
    }
    return {name: value if value is None else pytest.approx(value, abs=1e-12) for name, value in found.items()}


def has_halves(row: dict) -> bool:
    return all(row[f"{name}_correlation"] is not None for name in ("split_half", "reference_split_half", "cross_half"))


def test_a_layer_is_the_mean_over_functions(scored: Scored) -> None:
    of_functions = list(scored[0].sql("from function_stability"))
    keys = ("step", "reference", "partition_id", "layer", "family")
    found = list(scored[0].sql("from checkpoint_stability"))
    assert len(found) == 6 * 5 * 2
    for row in found:
        all_cells = [each for each in of_functions if all(each[key] == row[key] for key in keys)]
        cells = [each for each in all_cells if each["correlation"] is not None]
        values = means(cells, [each for each in all_cells if has_halves(each)], row["n_units"] - 1)
        assert {name: row[name] for name in values} == values
        assert row["n_functions"] == len(cells)
    # Ten random groups of a layer correlate at .65 too often for it to be a sign.
    assert {row["corrected_correlation"] is None for row in found if row["partition_id"] == GROUPS} == {True, False}


def test_a_curve_is_the_mean_over_the_cells_that_all_checkpoints_have(scored: Scored) -> None:
    of_functions = list(scored[0].sql("from function_stability where family = 'one' and function != 'b'"))
    for curve in scored[0].sql("from stability_curves where family = 'one'"):
        keys = ("run_id", "reference", "level")
        cells = [each for each in of_functions if all(each[key] == curve[key] for key in keys)]
        if curve["partition_id"] == GROUPS:
            cells = [each for each in cells if each["layer"] == 0]
        halved = [each for each in cells if each["function"] != "a"]
        n_layers = 1 if curve["partition_id"] == GROUPS else 2
        n_units = {"neuron": 60, "expert": 15, "random_group": 10}[curve["level"]] * n_layers
        values = means(cells, halved, n_units - n_layers)
        assert {name: curve[name] for name in values} == values
        assert (curve["n_layers"], curve["n_units"]) == (n_layers, n_units)


def test_the_errors_of_a_curve_are_the_jackknife_over_functions(scored: Scored) -> None:
    of_functions = list(scored[0].sql("from function_stability where level = 'neuron' and function in ('c', 'd', 'e')"))
    (curve, *_) = scored[0].sql(
        "from stability_curves where family = 'one' and partition_id = '*' and reference = 'last' order by step"
    )
    cells = [each for each in of_functions if each["step"] == 0 and each["reference"] == "last"]
    left_out = [corrected([each for each in cells if each["function"] != function]) for function in "cde"]
    squares = sum((each - np.mean(left_out)) ** 2 for each in left_out)
    assert curve["corrected_error"] == pytest.approx(math.sqrt(2 / 3 * squares))


def test_the_error_of_a_mean_is_that_of_its_functions_and_needs_three(scored: Scored) -> None:
    query = (
        "select step, function, avg(correlation) from function_stability where level = 'neuron' "
        "and reference = 'last' and function in ('a', 'c', 'd', 'e') group by all"
    )
    of_functions: dict[int, list[float]] = {}
    for step, _, value in scored[0].sql(query).rows():
        of_functions.setdefault(step, []).append(value)
    query = (
        "select step, correlation_error from stability_curves "
        "where family = '{}' and partition_id = '*' and reference = 'last'"
    )
    assert dict(scored[0].sql(query.format("one")).rows()) == {
        step: pytest.approx(np.std(values, ddof=1) / math.sqrt(4)) for step, values in of_functions.items()
    }
    assert set(dict(scored[0].sql(query.format("two")).rows()).values()) == {None}


def test_all_curves_of_a_partition_have_the_same_cells(scored: Scored) -> None:
    query = (
        "select distinct partition_id, level, family, n_layers, n_functions, n_cells, n_halved_cells, count(*) "
        "from stability_curves group by all order by all"
    )
    # Of family one, b is not everywhere and a lacks a half; of two, layer 1 has no correlation at the last step.
    assert scored[0].sql(query).rows() == [
        ("*", "neuron", "one", 2, 4, 8, 6, 6),
        ("*", "neuron", "two", 1, 1, 1, 1, 6),
        (EXPERTS, "expert", "one", 2, 4, 8, 6, 6),
        (EXPERTS, "expert", "two", 1, 1, 1, 1, 6),
        (EXPERTS, "neuron", "one", 2, 4, 8, 6, 6),
        (EXPERTS, "neuron", "two", 1, 1, 1, 1, 6),
        (GROUPS, "neuron", "one", 1, 4, 4, 3, 6),
        (GROUPS, "neuron", "two", 1, 1, 1, 1, 6),
        (GROUPS, "random_group", "one", 1, 4, 4, 3, 6),
        (GROUPS, "random_group", "two", 1, 1, 1, 1, 6),
    ]


@pytest.mark.parametrize(
    "view", ["function_stability", "checkpoint_stability", "stability_curves", "stabilization_steps"]
)
def test_a_filter_gives_what_the_view_has_in_the_whole(scored: Scored, view: str) -> None:
    every = list(scored[0].sql(f"from {view} order by all"))
    for asked in ({"partition_id": GROUPS}, {"model": "tiny", "last_run_id": run_id(300)}):
        whole = [row for row in every if asked.items() <= row.items()]
        condition = " and ".join(f"{name} = '{value}'" for name, value in asked.items())
        found = scored[0].sql(f"from {view} where {condition} order by all")
        # Sums of other orders differ in their last digits.
        assert list(map(_rounded, found)) == list(map(_rounded, whole))
        assert whole


def _rounded(row: dict[str, object]) -> dict[str, object]:
    return {name: round(value, 12) if isinstance(value, float) else value for name, value in row.items()}


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory, run: Run, partition: Run) -> Database:
    """Return two checkpoints of each of two models, and two partitions of one."""
    store = Store(tmp_path_factory.mktemp("two-models"))
    for model, step in product(("tiny", "other"), (0, 1)):
        run(
            store, f"{model:>15}{step}", model=model, revision=f"step{step}", step=step, n_neurons=10,
            functions=FUNCTIONS, prevalence=(0.5,) * 6,
        )  # fmt: skip
    partition(store, EXPERTS, np.arange(20).reshape(2, 10) % 5)
    partition(store, GROUPS, np.arange(20).reshape(2, 10) % 4)
    return Database(store)


@pytest.mark.parametrize(
    ("condition", "columns", "scans"),
    [
        ("model = 'tiny'", ("neuron", "function"), 2),
        ("family = 'one'", ("neuron", "function"), 2),
        ("layer = 1", ("neuron", "function"), 2),
        (f"partition_id = '{EXPERTS}'", ("expert", "partition_id"), 2),
    ],
)
def test_a_filter_reaches_the_files(
    two_models: Database, filters: Callable[..., list[str]], condition: str, columns: tuple[str, ...], scans: int
) -> None:
    found = filters(two_models, f"from checkpoint_stability where {condition}", *columns)
    # What neurons each partition has is looked up first; of its experts' scores a filter on it reaches the files.
    assert (len(found), set(found) - {""}) == (scans, {condition})


NEIGHBOURS: tuple[tuple[dict[str, object], bool], ...] = (
    ({}, True),
    ({"is_random_init": True}, False),
    ({"measurement": "imported"}, False),
    ({"step": None}, False),
    ({"model": "another"}, False),
    ({"corpus": "others"}, False),
    ({"corpus_sha256": "dd"}, False),
    ({"site": "gate"}, False),
    ({"pooling": "mean"}, False),
    ({"special_tokens": "keep"}, False),
    ({"special_tokens": "drop"}, True),
    ({"halves": "word"}, False),
    ({"halves": "text"}, True),
    ({"min_instances": 5}, False),
    ({"min_instances": 0}, True),
    ({"router": "blind"}, False),
    ({"dtype": "bfloat16"}, False),
    ({"storage": "float16"}, False),
    ({"max_tokens": 64}, False),
    ({"layers": "0"}, False),
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, run: Run) -> list[tuple[str, str]]:
    """Return the runs of three checkpoints that are compared, the second with settings of its own, one model each."""
    store = Store(tmp_path_factory.mktemp("neighbours"))
    small = {"n_layers": 1, "n_neurons": 8, "functions": FUNCTIONS[:1], "prevalence": (0.5,), "layers": None}
    for number, (settings, _) in enumerate(NEIGHBOURS):
        of_model = {"model": f"tiny-{number}", **small}
        run(store, f"{number:015}a", revision="step1", step=1, weights="w1", **of_model)
        run(store, f"{number:015}b", revision="step3", step=3, weights="w3", **of_model)
        run(store, f"{number:015}c", **{"revision": "step2", "step": 2, "weights": "w2", **of_model, **settings})
    query = "select distinct run_id, reference_run_id from checkpoint_stability where reference = 'previous'"
    return Database(store).sql(f"{query} order by all").rows()


@pytest.mark.parametrize("number", range(len(NEIGHBOURS)), ids=[str(settings) for settings, _ in NEIGHBOURS])
def test_a_series_is_measured_runs_that_differ_in_step_alone(compared: list[tuple[str, str]], number: int) -> None:
    names = [(run_id[-1], before[-1]) for run_id, before in compared if int(run_id[:-1]) == number]
    assert names == ([("b", "c"), ("c", "a")] if NEIGHBOURS[number][1] else [("b", "a")])


def test_of_several_revisions_of_a_step_the_first_by_name_is_in_the_series(store: Store, run: Run) -> None:
    small = {"n_layers": 1, "n_neurons": 8, "functions": FUNCTIONS[:1], "prevalence": (0.5,)}
    for name, revision, step in (("c", "main", 2), ("b", "step2", 2), ("a", "step1", 1)):
        run(store, name * 16, revision=revision, step=step, weights=revision, **small)
    query = "select revision, last_run_id, reference, reference_revision, has_twin from checkpoint_stability"
    assert Database(store).sql(f"{query} order by all").rows() == [
        ("main", "c" * 16, "previous", "step1", False),
        ("step1", "c" * 16, "last", "main", False),
    ]


def test_twins_are_marked_beside_any_other_and_left_out_of_the_steps(store: Store, run: Run) -> None:
    small = {"n_layers": 1, "n_neurons": 30, "functions": FUNCTIONS[:1], "prevalence": (0.5,)}
    for step, weights in ((1, "w1"), (2, "w2"), (3, "w1"), (4, "w4"), (5, "w5")):
        run(store, run_id(step), revision=f"step{step}", step=step, weights=weights, seed=step, **small)
    database = Database(store)
    for view in ("function_stability", "checkpoint_stability", "stability_curves"):
        query = f"select reference, step from {view} where has_twin order by all"
        # Steps 1 and 3 have the same weights, so 2 beside 1 and 4 beside 3 may be what they are not named.
        expected = [("last", 1), ("last", 3), ("previous", 2), ("previous", 3), ("previous", 4)]
        assert database.sql(query).rows() == expected
    query = "select distinct reference, n_compared from stabilization_steps order by all"
    assert database.sql(query).rows() == [("last", 2), ("previous", 1)]


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
    ("split_half", "other", "ceiling", "n_free", "corrected"),
    [
        (0.5, 0.5, 2 / 3, 1000, 0.8),
        (1.0, 0.25, math.sqrt(0.4), 1000, 0.8),
        (0.18, 0.18, 0.36 / 1.18, 1000, 0.4 / 0.18),
        # Either is too low.
        (0.17, 0.9, math.sqrt(0.34 / 1.17 * 1.8 / 1.9), 1000, None),
        (0.9, 0.17, math.sqrt(0.34 / 1.17 * 1.8 / 1.9), 1000, None),
        # Two standard errors of so few units are 2 / 3.
        (0.66, 0.7, math.sqrt(1.32 / 1.66 * 1.4 / 1.7), 9, None),
        (0.7, 0.66, math.sqrt(1.32 / 1.66 * 1.4 / 1.7), 9, None),
        (0.7, 0.7, 1.4 / 1.7, 9, 0.4 / 0.7),
        (0.0, 0.9, None, 1000, None),
        (-0.1, -0.1, None, 1000, None),
        (None, 0.9, None, 1000, None),
    ],
)
def test_a_correlation_is_corrected_where_there_is_signal(
    empty: Database, split_half: float | None, other: float, ceiling: float | None, n_free: int, corrected: float | None
) -> None:
    query = "select noise_ceiling(?, ?), disattenuated(.4, ?, ?, ?)"
    found = empty.sql(query, [split_half, other, split_half, other, n_free]).rows()[0]
    assert found == (ceiling and pytest.approx(ceiling), corrected and pytest.approx(corrected))


def test_few_units_without_signal_are_hardly_ever_corrected(empty: Database) -> None:
    generator = np.random.default_rng(0)
    ranks = generator.random((2000, 2, 8)).argsort(axis=2)
    # Noise of the same instances: what one checkpoint's half a has in common with b, the other's has as well.
    shared = [float(np.corrcoef(half_a, half_b)[0, 1]) for half_a, half_b in ranks]
    query = "select avg((disattenuated(r, r, r, 7) is not null)::int) from (select unnest($shared) as r)"
    share = empty.sql(query, {"shared": shared}).rows()[0][0]
    # Of eight, ranks correlate at 2 / sqrt(7) or more in 2%, at .18 or more in a third.
    assert 0 < share < 0.03
    assert np.mean(np.asarray(shared) >= 0.18) > 0.3


def test_a_step_counts_once_whether_its_runs_name_their_settings_or_are_older_than_these(
    store: Store, run: Callable[..., None]
) -> None:
    defaults = {"special_tokens": "drop", "halves": "text", "min_instances": 0}
    run(store, "1" * 16, revision="a", step=0, weights="w0", n_neurons=10)
    run(store, "2" * 16, revision="b", step=0, weights="w1", n_neurons=10, **defaults)
    run(store, "3" * 16, revision="c", step=100, weights="w2", n_neurons=10, **defaults)
    found = (
        Database(store).sql("select run_id, reference_run_id from compared_runs where reference = 'previous'").rows()
    )
    assert found == [("3" * 16, "1" * 16)]
