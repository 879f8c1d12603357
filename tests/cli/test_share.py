"""`neuronlake share import`: the published table of the paper, what is printed, and what is said about wrong files."""

import json
from pathlib import Path

import pytest

GIVEN = ("--model", "theirs", "--stack", "encoder", "--family", "task", "--function", "sport", "--score", "score")


@pytest.fixture
def csv(tmp_path):
    """Return a table of 200 neurons in 4 experts."""
    path = tmp_path / "scores.csv"
    rows = (f"0,{neuron},{neuron / 200},{neuron // 50}" for neuron in range(200))
    path.write_text("\n".join(["layer,neuron,score,expert", *rows]) + "\n")
    return path


@pytest.fixture
def new(tmp_path):
    """Return the folder of a store that is not there yet."""
    return tmp_path / "new"


@pytest.fixture
def asked(succeeds, new):
    """Return a function that asks SQL of the store and returns the rows."""

    def ask(query):
        return [tuple(row.values()) for row in json.loads(succeeds("--store", new, "sql", query, "--format", "json"))]

    return ask


@pytest.mark.reference
def test_the_published_table_gives_the_known_answer(succeeds, new, asked, shared):
    folder = shared / "reference" / "t5_base_task"
    said = succeeds(
        "--store", new, "share", "import", folder / "neurons.parquet", "--model", "t5-base", "--stack", "encoder",
        "--family", "task", "--function", "mean", "--score", "predictivity", "--partition", "expert",
    )  # fmt: skip
    assert "36,864 neurons in 12 layers x 1 functions; partition " in said
    assert said.endswith(" of 16 experts a layer\n")
    expected = json.loads((folder / "expected.json").read_text())
    query = "select layer, expert, n_top, p_value from functional_experts where level = 'function' order by layer"
    assert asked(query) == [
        (layer["layer"], expert, count, pytest.approx(p_value, rel=1e-9, abs=0))
        for layer in expected["layers"]
        for expert, count, p_value in zip(layer["functional_experts"], layer["counts"], layer["p_values"], strict=True)
    ]
    assert asked("select layer, proportion, degree, eta_squared from modularization order by layer") == [
        (
            layer["layer"],
            layer["proportion"],
            pytest.approx(layer["degree"], rel=1e-12),
            pytest.approx(layer["eta_squared"], abs=1e-3),
        )
        for layer in expected["layers"]
    ]
    means = pytest.approx((expected["mean_proportion"], expected["mean_degree"]), rel=1e-12)
    assert asked("select avg(proportion), avg(degree) from modularization") == [means]


def test_an_import_is_told_in_one_line_and_doing_it_again_as_well(succeeds, new, csv, asked, contents):
    line = succeeds("--store", new, "share", "import", csv, *GIVEN, "--partition", "expert", "--step", "7")
    assert ": 200 neurons in 1 layers x 1 functions; partition " in line
    assert asked("select model, revision, step, measurement from runs") == [("theirs", "main", 7, "imported")]
    before = contents(new)
    again = succeeds("--store", new, "share", "import", csv, *GIVEN, "--partition", "expert", "--step", "7")
    assert again == line.removesuffix("\n") + "; already in the store, nothing done\n"
    assert contents(new) == before


def test_imported_results_stand_beside_measured_ones(succeeds, store, csv):
    succeeds("--store", store, "share", "import", csv, *GIVEN)
    query = "select measurement, count(*) as n from runs join neuron_functions using (run_id) group by all order by all"
    rows = json.loads(succeeds("--store", store, "sql", query, "--format", "json"))
    assert rows == [{"measurement": "imported", "n": 200}, {"measurement": "measured", "n": 256}]


def test_an_imported_partition_is_aligned_and_described(succeeds, new, csv, asked):
    succeeds("--store", new, "share", "import", csv, *GIVEN, "--partition", "expert")
    ((partition_id,),) = asked("select partition_id from partitions")
    said = succeeds("--store", new, "align", partition_id[:4], "--permutations", "99")
    assert said.endswith("; the run has no norms and firing rates, so none is matched\n")
    assert asked("select n_top, n_permutations from alignments where expert = 3 and function = 'sport'") == [(2, None)]
    card = succeeds("--store", new, "describe", "neuron", "theirs", "--layer", "0", "--neuron", "150")
    assert [partition_id, "imported", "4", "3"] in [line.split() for line in card.splitlines()]
    assert "4 experts a layer" in succeeds(
        "--store", new, "describe", "expert", partition_id, "--layer", "0", "--expert", "3"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--partition", "cluster"), "no column 'cluster' in {file}; available: expert, family, function, "),
        (("--score", "scores"), "no column 'scores' in {file}; did you mean 'score'?"),
        (("--function", "*"), "{file}: column function holds '*'"),
    ],
    ids=str,
)
def test_a_wrong_name_fails_in_one_line_and_the_store_is_unchanged(fails, store, csv, contents, arguments, message):
    before = contents(store)
    said = fails("--store", store, "share", "import", csv, *GIVEN, *arguments)
    assert said.startswith(message.format(file=csv))
    assert contents(store) == before


def test_a_store_is_not_begun_by_an_import_that_fails(fails, new, tmp_path):
    file = tmp_path / "gap.csv"
    file.write_text("layer,neuron,score\n0,0,0.5\n0,2,0.5\n")
    assert "every neuron from 0 on is needed" in fails("--store", new, "share", "import", file, *GIVEN)
    assert not new.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.csv", *GIVEN), "Invalid value for 'FILE': File 'gone.csv' does not exist."),
        (("{file}", "--score", "score"), "Missing option '--model'."),
        (("{file}", "--model", "theirs"), "Missing option '--score'."),
        (("{file}", *GIVEN, "--stack", "middle"), "Invalid value for '--stack': 'middle' is not one of "),
        (("{file}", *GIVEN, "--step", "-1"), "Invalid value for '--step': -1 is not in the range"),
        (("{file}", *GIVEN, "--step", str(2**63)), f"Invalid value for '--step': {2**63} is not in the range"),
    ],
    ids=["no file", "no model", "no score", "stack", "negative step", "large step"],
)  # fmt: skip
def test_wrong_usage_is_refused(is_usage_error, csv, arguments, message):
    assert is_usage_error("share", "import", *(each.format(file=csv) for each in arguments)).startswith(message)
    assert not Path("neuronlake-store").exists()


def test_stores_are_merged_and_a_store_is_named_in_one_way(succeeds, fails, is_usage_error, store, new):
    assert succeeds("share", "merge", store, store, "--into", new) == "2 jobs, 2 committed now\n"
    assert succeeds("share", "merge", store, "--into", new) == "2 jobs, 0 committed now\n"
    assert is_usage_error("--store", store, "share", "merge", store, "--into", new).endswith("--into: no --store")
    assert fails("share", "merge", new.parent, "--into", new).startswith("no store at")
