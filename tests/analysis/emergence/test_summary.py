"""The sections of a summary, of hand-made rows of the views that they read."""

import dataclasses

import duckdb
import pytest

from neuronlake.analysis.emergence.study import EmergenceReport
from neuronlake.analysis.emergence.summary import summarise
from neuronlake.queries import catalog
from neuronlake.queries.database import Database
from neuronlake.queries.result import Result

REPORT = EmergenceReport(
    emergence_id="e", model="m", last_run_id="r40", corpus="c", method="kmeans", n_experts=2, is_new=True,
    run_ids=("r20", "r40"), steps=(20, 40), n_partitions=0, n_partitions_reused=0, notices=(), duration_s=0.0,
)  # fmt: skip
GROUPS = [(role, seed) for role in ("random", "matched") for seed in range(4)]


class Tables:
    """Tables in place of those of a store."""

    def __init__(self, role="cold"):
        self.connection = duckdb.connect()
        self.connection.execute(catalog.macros())
        last = [*((role, seed) for seed in range(4)), *GROUPS, *[("warm", 0)] * (role == "cold")]
        self.fill(
            "emergence_partitions (emergence_id text, role text, seed int, run_id text, partition_id text)",
            *(("e", role, seed, "r40", f"{role}{seed}") for role, seed in last),
            *(("e", "cold", seed, "r20", f"early{seed}") for seed in range(4) if role == "cold"),
        )

    def fill(self, declared, *rows):
        self.connection.execute(f"create table {declared}")
        name, columns = declared.split(" ", 1)
        # Where a ranking chooses, rows are of lift.
        self.connection.execute(f"create macro {name}_by(ranking) as table from {name} where ranking = 'lift'")
        if rows:
            places = ", ".join("?" * (columns.count(",") + 1))
            self.connection.executemany(f"insert into {name} values ({places})", rows)

    def sql(self, query, parameters=None):
        return Result(self.connection.sql(query, params=parameters))

    ask = Database.ask


@pytest.fixture
def tables():
    """Return tables of a study whose views are still to be filled."""
    return Tables()


def shown(tables, title, thresholds=(0.5,), report=REPORT, ranking="lift"):
    """Return the rows of the section whose sentence begins so, without what is NULL."""
    sections = summarise(tables, report, thresholds=thresholds, ranking=ranking)
    (section,) = (each for each in sections if each.sentence.startswith(title))
    return [{name: value for name, value in row.items() if value is not None} for row in section.rows(tables)]


STEPS = (
    "stabilization_steps (last_run_id text, model text, reference text, partition_id text, level text, method text, "
    "stack text, family text, is_corrected bool, threshold double, n_checkpoints int, n_compared int, "
    "lasting_step double, is_lasting_censored bool, lasting_step_earliest double, lasting_step_latest double, "
    "n_dead int)"
)


def curve(
    partition_id, lasting_step, *, level=None, threshold=0.5, n=3, is_censored=False, band=(None, None), n_dead=None
):
    method = partition_id.rstrip("0123456789")
    kind = "random_group" if method in ("random", "matched") else "expert"
    return (
        "r40", "m", "last", partition_id, level or kind, None if level == "neuron" else method, "encoder", "task",
        True, threshold, n, 3, lasting_step, is_censored, *band, n_dead,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((10, 30), "20 (10 to 30; 2 of 2 reach it)"),
        ((30, None), "not reached (30 to not reached; 1 of 2 reach it)"),
        ((None, None), "not reached (0 of 2 reach it)"),
        (("none", "none"), "no signal (2)"),
        ((12.6, "none"), "13 (13 to 13; 1 of 1 reach it, 1 no signal)"),
        (("<= 10", 30), "<= 20 (<= 10 to 30; 2 of 2 reach it)"),
        (("<= 10", None), "not reached (<= 10 to not reached; 1 of 2 reach it)"),
        ((30, 10, None), "30 (10 to not reached; 2 of 3 reach it)"),
        ((10, "<= 5", 30), "10 (<= 5 to 30; 3 of 3 reach it)"),
        ((1, 2, None, None), "not reached (1 to not reached; 2 of 4 reach it)"),
        ((1, 2, 4, None), "3 (1 to not reached; 3 of 4 reach it)"),
    ],
)
@pytest.mark.parametrize("role", ["cold", "random", "matched"])
def test_partitions_are_shown_by_their_median_and_range_and_how_many_reach_the_threshold(tables, role, steps, text):
    rows = []
    for seed, step in enumerate(steps):
        is_censored = str(step).startswith("<= ")
        number = float(str(step).removeprefix("<= ")) if step not in (None, "none") else None
        rows.append(curve(f"{role}{seed}", number, n=0 if step == "none" else 3, is_censored=is_censored))
    tables.fill(STEPS, *rows)
    ((row),) = shown(tables, "Settled: ")
    assert row["experts" if role == "cold" else role] == text


@pytest.mark.parametrize(
    ("lasting_step", "values", "text"),
    [
        (20, {"band": (10, 30.4)}, "20 (10 to 30)"),
        (20, {"band": (10, None)}, "20 (10 to not reached)"),
        (20, {}, "20"),
        (6, {"band": (6, 8), "is_censored": True}, "<= 6 (<= 6 to 8)"),
        (None, {"band": (30, None)}, "not reached (30 to not reached)"),
        (None, {}, "not reached"),
        (None, {"n": 0}, "no signal"),
    ],
)
def test_neurons_are_shown_by_their_step_and_its_band(tables, lasting_step, values, text):
    # The neurons of another partition's layers are not shown.
    other = curve("cold1", 1, level="neuron")
    tables.fill(STEPS, curve("cold0", lasting_step, level="neuron", **values), other)
    (row,) = shown(tables, "Settled: ")
    assert row["neurons"] == text


def test_how_many_checkpoints_have_a_value_is_shown_for_neurons_and_experts(tables):
    tables.fill(STEPS, curve("cold0", 1, level="neuron", n=2), curve("cold0", 1, n=1), curve("cold1", 1, n=3))
    (row,) = shown(tables, "Settled: ")
    assert (row["neuron_values"], row["expert_values"]) == ("2 of 3", "1 to 3 of 3")


def test_how_many_neurons_are_left_out_as_dead_is_shown(tables):
    tables.fill(STEPS, curve("cold0", 1, level="neuron", n_dead=7), curve("cold0", 1, n_dead=5))
    (row,) = shown(tables, "Settled: ")
    assert row["dead_neurons"] == 7


def test_each_threshold_that_is_asked_for_is_a_row(tables):
    tables.fill(STEPS, *(curve("cold0", step, threshold=step / 100) for step in (50, 70, 90)))
    rows = shown(tables, "Settled: ", thresholds=(0.9, 0.5))
    assert [(row["threshold"], row["experts"]) for row in rows] == [
        ("0.5", "50 (50 to 50; 1 of 1 reach it)"), ("0.9", "90 (90 to 90; 1 of 1 reach it)")
    ]  # fmt: skip


def test_partitions_of_other_studies_are_not_shown(tables):
    tables.fill(STEPS, curve("cold0", 10), curve("random9", 20))
    (row,) = shown(tables, "Settled: ")
    assert "random" not in row


def test_means_by_step_are_over_functions_and_partitions(tables):
    tables.fill(
        "run_functions (run_id text, family text, function text)",
        *((run, family, name) for run in ("r20", "r40") for family, name in (("a", "x"), ("b", "y"), ("b", "z"))),
    )
    tables.fill(
        "best_predictivity (run_id text, family text, best_predictivity double, held_out_lift double, "
        "n_functions int, n_held_out_functions int)",
        ("r40", "a", 0.9, 0.5, 1, 1),
        ("r40", "b", 0.6, 0.2, 2, 2),
        ("r20", "a", 0.9, None, 1, 0),
    )
    tables.fill("specialization (run_id text, lift double, q_value double)", ("r40", 0.1, 0.05), ("r40", 0.4, 0.06))
    tables.fill("runs (run_id text, step int)", ("r20", 20), ("r40", 40), ("other", 30))
    tables.fill("layers (run_id text, stack text, layer int, n_neurons int)", ("r40", "encoder", 0, 1000))
    # Four top neurons a function at the last step; the one before has others.
    places = {"x": range(4), "y": range(4, 8), "z": range(8, 12)}
    tables.fill(
        "top_neurons (run_id text, stack text, layer int, neuron int, family text, function text)",
        *(
            (run, "encoder", 0, neuron + first, "a" if function == "x" else "b", function)
            for run, first in (("r20", 500), ("r40", 0))
            for function, neurons in places.items()
            for neuron in neurons
        ),
    )
    # Experts of 50 and 950 neurons: three or four of four top neurons in the small one are functional, two are not.
    small = {
        "cold0": (0, 1, 2, 3, 4, 5, 6), "cold1": (0, 1, 8, 9, 10, 11), "matched3": (9, 10, 11), "warm0": range(12),
        "early0": range(12),
    }  # fmt: skip
    tables.fill("experts (partition_id text, stack text, layer int, expert int, neuron int)")
    tables.connection.execute("insert into experts values ('cold0', 'decoder', 0, 0, 1)")  # that was not measured
    for (partition,) in tables.sql("select partition_id from emergence_partitions").rows():
        members = list(small.get(partition, ()))
        members += range(100, 150 - len(members))
        tables.connection.execute(
            "insert into experts select ?, 'encoder', 0, (not list_contains(?, neuron))::int, neuron "
            "from (select unnest(range(1000)) as neuron)",
            [partition, members],
        )
    first, last = shown(tables, "By step. ")
    # Of 3 functions and 2 experts of each of 4 partitions: 3 of 24 cold pairs, 1 of 24 matched ones. Enrichment is 20
    # where an expert holds four top neurons, 15 where it holds three: of the 12 functions of the cold partitions two
    # have 20 and one 15, of the matched ones one has 15.
    assert last == {
        "step": 40, "best_predictivity": 0.7, "best_lift_held_out": 0.3, "mean_lift": 0.25, "specialised": 0.5,
        "functional_experts": 0.125, "in_random": 0.0, "in_matched": 0.0417, "degree": 4.583, "random_degree": 0.0,
        "matched_degree": 1.25,
    }  # fmt: skip
    assert (first["best_predictivity"], "best_lift_held_out" in first, first["functional_experts"]) == (0.9, False, 0)
    of_no_neuron = dict.fromkeys(("functional_experts", "in_matched", "degree", "matched_degree"), 0.0)
    assert shown(tables, "By step. ", ranking="predictivity")[1] == last | of_no_neuron


def test_agreement_to_expect_is_the_root_of_both_agreements_between_seeds(tables):
    columns = "(emergence_id text, role text, step int, reference text, adjusted_rand_index double)"
    seed = {0: -0.1, 10: 0.04, 20: 0.16, 40: 0.64}
    found = {("previous", 10): 0.01, ("last", 20): 0.3, ("last", 0): 0.0, ("previous", 40): 0.2}
    tables.fill(
        f"partition_changes {columns}",
        *(("e", "cold", step, "seed", value) for step, value in seed.items()),
        *(("e", "cold", step, reference, value) for (reference, step), value in found.items()),
        ("other", "cold", 0, "seed", 1.0),
    )
    rows = shown(tables, "Partitions: ")
    assert [row.get("expected_to_previous") for row in rows] == [None, 0.0, 0.08, 0.32]
    assert [row.get("expected_to_last") for row in rows] == [0.0, None, 0.32, None]
    assert [row.get("cold_to_last") for row in rows] == [0.0, None, 0.3, None]


def test_births_are_of_pairs_that_are_functional_at_the_last_checkpoint():
    tables = Tables("native")
    tables.fill(
        "expert_tracks (emergence_id text, role text, seed int, run_id text, track int)",
        *(("e", "native", seed, f"r{step}", track) for seed in range(4) for step in (20, 40) for track in (0, 1)),
        *(("e", *group, f"r{step}", track) for group in GROUPS for step in (20, 40) for track in (0, 1)),
    )
    columns = (
        "(emergence_id text, model text, role text, seed int, stack text, layer int, track int, step int, "
        "first_step int, lasting_step int, is_functional_at_last bool)"
    )
    pairs = [
        ("native", 0, 0, 0, 10, True),
        ("native", 0, 0, 0, 40, True),
        ("native", 0, 1, 10, 20, True),
        ("native", 1, 1, 20, 40, True),
        ("native", 1, 1, 0, None, False),
        ("random", 2, 0, 40, 40, True),
        *[("matched", 3, 0, 0, None, False)] * 9,
    ]
    tables.fill(
        f"expert_births {columns}",
        *(("e", "m", role, seed, "encoder", 0, track, 40, *rest) for role, seed, track, *rest in pairs),
    )
    report = dataclasses.replace(REPORT, method="native")
    assert [tuple(row.values()) for row in shown(tables, "Births: ", report=report)] == [
        ("native", 4, 2, 0.8, 1.0, 0.5, 5.0, 30.0),
        ("random", 4, 2, 0.3, 0.3, 0.0, 40.0, 40.0),
        ("matched", 4, 2, 0.0, 0.0),
    ]
    by_predictivity = shown(tables, "Births: ", report=report, ranking="predictivity")
    assert [row["functional_pairs"] for row in by_predictivity] == [0.0] * 3
