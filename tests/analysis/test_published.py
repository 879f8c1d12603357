"""Published scores and experts as a run and a partition: what is stored, and what is refused."""

import datetime
import json
import re

import polars as pl
import pyarrow.parquet as pq
import pytest

from neuronlake.analysis.published import import_scores
from neuronlake.errors import AnalysisError, NeuronlakeError, StoreError, UnknownNameError
from neuronlake.queries.catalog import views
from neuronlake.queries.database import Database
from neuronlake.schema.commits import neuronlake_version
from neuronlake.schema.store import Store

GIVEN = {"model": "theirs", "stack": "encoder", "family": "task", "function": "sport", "score": "score"}
# Two layers of 300 and 200 neurons.
SIZES = {0: 300, 1: 200}
ROWS = [
    {"layer": layer, "neuron": neuron, "score": neuron if neuron < 150 else 0.5, "expert": neuron // 100 + 1}
    for layer, size in SIZES.items()
    for neuron in range(size)
]
TABLE = pl.DataFrame(ROWS, schema_overrides={"score": pl.Float64})
LONG = pl.concat(
    TABLE.with_columns(score=pl.col("neuron") * by).with_columns(stack=pl.lit(stack), function=pl.lit(function))
    for stack in ("decoder", "encoder")
    for function, by in (("a", 1.5), ("b", -1.5))
).with_columns(family=pl.lit("task"))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a table, or text, as a file of the given name."""

    def write(data, name="scores.parquet"):
        path = tmp_path / name
        if isinstance(data, str):
            path.write_text(data)
        elif name.endswith(".csv"):
            data.write_csv(path)
        else:
            data.write_parquet(path)
        return path

    return write


def read(store, name):
    """Return all rows of a table but what names the file they are from."""
    own = ("run_id", "partition_id", "source", "source_sha256", "started_at", "parameters")
    (path,) = store.files(name)
    rows = pq.read_table(path, partitioning=None).to_pylist()
    return [{column: value for column, value in row.items() if column not in own} for row in rows]


def test_scores_and_experts_are_stored_as_they_are(write, store):
    report = import_scores(write(TABLE), store=store.path, partition="expert", step=7, **GIVEN)
    assert (report.is_new, report.n_layers, report.n_neurons, report.n_functions, report.n_experts) == (
        True,
        2,
        500,
        1,
        3,
    )
    run, partition = (
        f"run {report.run_id}: 500 neurons in 2 layers x 1 functions",
        f"partition {report.partition_id} of 3 experts a layer",
    )
    assert report.describe() == f"{run}; {partition}"
    keys = {"model": "theirs", "revision": "main", "step": 7}
    assert read(store, "layers")[0] == {
        **keys, "stack": "encoder", "layer": 0, "n_neurons": 300, "n_native_experts": None,
        "activation_function": None, "is_gated": None, "module_path": None,
    }  # fmt: skip
    scores = read(store, "neuron_functions")
    assert [(row["layer"], row["neuron"], row["ap"]) for row in scores] == [
        (row["layer"], row["neuron"], row["score"]) for row in ROWS
    ]
    known = {**keys, "stack": "encoder", "family": "task", "function": "sport"}
    assert {name: value for name, value in scores[160].items() if value is not None} == {
        **known, "layer": 0, "neuron": 160, "ap": 0.5
    }  # fmt: skip
    experts = [(row["stack"], row["layer"], row["neuron"], row["expert"]) for row in read(store, "experts")]
    assert experts == [("encoder", row["layer"], row["neuron"], row["expert"]) for row in ROWS]
    sizes = [
        (row["layer"], row["n_experts"], row["n_smallest"], row["n_largest"]) for row in read(store, "partition_layers")
    ]
    assert sizes == [(0, 3, 100, 100), (1, 2, 100, 100)]
    assert store.check() == ()


def test_a_run_says_where_it_is_from_and_nothing_that_is_not_known(write, store):
    file = write(TABLE)
    before = datetime.datetime.now(datetime.UTC)
    report = import_scores(file, store=store.path, partition="expert", revision="v1.1", **GIVEN)
    (path,) = store.files("runs")
    (run,) = pq.read_table(path, partitioning=None).to_pylist()
    known = {name: value for name, value in run.items() if value is not None}
    assert before <= known.pop("started_at") <= datetime.datetime.now(datetime.UTC)
    del known["python_version"]
    sha256 = run["source_sha256"]
    assert known == {
        "run_id": report.run_id, "model": "theirs", "revision": "v1.1", "measurement": "imported",
        "neuronlake_version": neuronlake_version(), "duration_s": 0, "source": "scores.parquet",
        "source_sha256": sha256,
    }  # fmt: skip
    (path,) = store.files("partitions")
    (partition,) = pq.read_table(path, partitioning=None).to_pylist()
    assert json.loads(partition["parameters"]) == {
        "source": "scores.parquet",
        "source_sha256": sha256,
        "column": "expert",
    }
    assert (partition["method"], partition["n_experts"], partition["seed"], partition["run_id"]) == (
        "imported",
        3,
        None,
        None,
    )


@pytest.mark.parametrize("data", [TABLE, TABLE.sample(fraction=1, shuffle=True, seed=0)], ids=["sorted", "shuffled"])
def test_parquet_and_csv_give_the_same_rows(write, tmp_path, data):
    found = []
    for name in ("scores.parquet", "scores.csv"):
        store = Store(tmp_path / name.partition(".")[2])
        import_scores(write(data, name), store=store.path, partition="expert", **GIVEN)
        tables = ("runs", "layers", "neuron_functions", "partitions", "partition_layers", "experts")
        found.append({each: read(store, each) for each in tables})
    assert found[0] == found[1]
    assert len(found[0]["experts"]) == 500


def test_a_long_table_names_stacks_families_and_functions_itself(write, store):
    given = {**GIVEN, "stack": None, "family": None, "function": None}
    report = import_scores(write(LONG), store=store.path, partition="expert", **given)
    assert (report.n_layers, report.n_neurons, report.n_functions, report.n_experts) == (4, 1000, 2, 3)
    query = "select stack, function, count(*), count(distinct layer), max(ap) from neuron_functions group by all"
    assert sorted(Database(store).sql(query).rows()) == [
        ("decoder", "a", 500, 2, 448.5),
        ("decoder", "b", 500, 2, 0),
        ("encoder", "a", 500, 2, 448.5),
        ("encoder", "b", 500, 2, 0),
    ]
    assert Database(store).sql("select count(*) from experts").rows() == [(1000,)]


def test_the_score_and_the_experts_may_have_any_column_name(write, store):
    data = TABLE.rename({"score": "run_id", "expert": "ap"}).with_columns(auroc=pl.lit(0.1))
    import_scores(write(data), store=store.path, partition="ap", **{**GIVEN, "score": "run_id"})
    query = "select count(*) filter (where auroc is null and ap = least(ap, 150)), max(ap) from neuron_functions"
    assert Database(store).sql(query).rows() == [(500, 149)]
    assert Database(store).sql("select distinct expert from experts order by all").rows() == [(1,), (2,), (3,)]


@pytest.mark.parametrize("column", ["auroc", "mean_positive", "p_value"])
def test_a_column_of_experts_named_like_one_of_scores_is_no_score(write, store, column):
    import_scores(write(TABLE.rename({"expert": column})), store=store.path, partition=column, **GIVEN)
    assert Database(store).sql(f"select count({column}), count(ap) from neuron_functions").rows() == [(0, 500)]


def test_scores_that_begin_as_whole_numbers_may_go_on_as_others(write, store):
    lines = [f"0,{neuron},{0 if neuron < 250 else 0.5}" for neuron in range(300)]
    import_scores(write("\n".join(["layer,neuron,score", *lines]), "scores.csv"), store=store.path, **GIVEN)
    assert Database(store).sql("select sum(ap) from neuron_functions").rows() == [(25,)]


def test_a_file_name_is_no_pattern(write, store):
    write(TABLE.head(0), "scores1.csv")
    report = import_scores(write(TABLE, "scores[1].csv"), store=store.path, **GIVEN)
    assert report.n_neurons == 500


@pytest.mark.parametrize("names", [{"model": "x.parquet"}, {"revision": "x" * 300}], ids=str)
def test_a_name_that_no_store_can_hold_is_refused(write, store, names):
    with pytest.raises(StoreError, match="cannot be stored under this name"):
        import_scores(write(TABLE), store=store.path, **{**GIVEN, **names})
    assert not store.path.exists()


def test_the_same_again_changes_nothing_and_says_so(write, store):
    file = write(TABLE)
    first, _ = (import_scores(file, store=store.path, partition=each, **GIVEN) for each in ("expert", None))
    files = {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}
    again = import_scores(file, store=store.path, partition="expert", **GIVEN)
    assert (again.run_id, again.partition_id, again.is_new) == (first.run_id, first.partition_id, False)
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()} == files
    assert again.describe().endswith("3 experts a layer; already in the store, nothing done")


def test_experts_may_be_added_to_scores_later(write, store):
    file = write(TABLE)
    first, second = (import_scores(file, store=store.path, partition=each, **GIVEN) for each in (None, "expert"))
    assert (first.partition_id, first.n_experts, second.is_new) == (None, 0, True)
    assert first.run_id == second.run_id


def test_two_scores_of_one_file_are_two_runs_and_one_partition(write, store):
    file = write(TABLE.with_columns(other=-pl.col("score")))
    first, second = (
        import_scores(file, store=store.path, partition="expert", **{**GIVEN, "score": score, "function": score})
        for score in ("score", "other")
    )
    assert first.run_id != second.run_id
    assert first.partition_id == second.partition_id
    assert second.is_new
    query = "select count(distinct run_id), count(distinct partition_id), count(*) from expert_function_alignment"
    assert Database(store).sql(query).rows() == [(2, 1, 10)]


@pytest.mark.parametrize("view", [view.name for view in views()])
def test_every_view_runs_on_an_imported_run_alone(imported, view):
    rows = imported.sql(f"from {view}").arrow()
    lacking = {"checkpoint_identity", "held_out_top_neurons", "partition_agreement"}  # of what is measured
    lacking |= {"alignment_tests", "held_out_experts"}  # until it is aligned
    lacking |= {"function_stability", "checkpoint_stability", "stability_curves"}  # of several checkpoints
    lacking |= {"stabilization_steps", "compared_runs", "compared_layers", "unstored_stability"}  # likewise
    lacking |= {"neuron_controls", "control_neuron_experts", "control_counts", "control_alignment"}  # without controls
    lacking |= {"expert_births", "track_alignment"}  # until a series of checkpoints is studied
    lacking |= {"perturbation_effects", "perturbation_specificity"}  # until its model is perturbed
    assert (rows.num_rows > 0) == (view not in lacking)


def test_functions_of_imported_scores_may_be_named(imported):
    scored = imported.sql("select distinct family || '/' || function, family from neuron_functions order by all").rows()
    assert imported.ask("stored_functions").rows() == scored != []
    assert {family for family, _ in imported.ask("stored_families").rows()} == {family for _, family in scored}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Return a database of a store that holds one imported run and its partition."""
    folder = tmp_path_factory.mktemp("imported")
    # Of experts of ten, the last of a layer has the three best for one function, the first those for the other.
    LONG.with_columns(expert=pl.col("neuron") // 10).write_parquet(folder / "scores.parquet")
    given = {**GIVEN, "stack": None, "family": None, "function": None}
    import_scores(folder / "scores.parquet", store=folder / "store", partition="expert", **given)
    return Database(folder / "store")


def changed(column, value, *, row=3):
    """Return the table with one value changed."""
    place = pl.int_range(pl.len()) == row
    return TABLE.with_columns(pl.when(place).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))


LAYER_OF_TEXT, SCORE_OF_TEXT = (TABLE.with_columns(pl.lit("one").alias(each)) for each in ("layer", "score"))
REFUSED = {
    "no score": (TABLE, {"score": "scores"}, "no column 'scores' in {file}; did you mean 'score'?"),
    "no stack": (TABLE, {"stack": None}, "no column 'stack' in {file}; available: expert, family, function, layer, "),
    "no function": (TABLE, {"function": None}, "no column 'function' in {file}; "),
    "no experts": (TABLE, {"partition": "cluster"}, "no column 'cluster' in {file}; available: "),
    "no layer": (TABLE.drop("layer"), {}, "no column 'layer' in {file}; available: "),
    "text layer": (LAYER_OF_TEXT, {}, "{file}: column layer is String; it must hold whole numbers"),
    "half a layer": (changed("layer", 0.5), {}, "{file}: column layer is Float64; it must hold whole numbers"),
    "large layer": (changed("layer", 40_000), {}, "{file}: column layer: conversion from `i64` to `i16` failed"),
    "text score": (SCORE_OF_TEXT, {}, "{file}: column score is String; it must hold numbers"),
    "nan score": (changed("score", float("nan")), {}, "{file}: column score: no value at row 3, counted from 0"),
    "infinite score": (changed("score", float("inf")), {}, "{file}: column score: no value at row 3, counted from 0"),
    "null score": (changed("score", None), {}, "{file}: column score: no value at row 3, counted from 0"),
    "null neuron": (changed("neuron", None), {}, "{file}: column neuron: no value at row 3, counted from 0"),
    "null expert": (changed("expert", None), {}, "{file}: column expert: no value at row 3, counted from 0"),
    "half an expert": (changed("expert", 1.5), {}, "{file}: column expert is Float64; it must hold whole numbers"),
    "empty family": (TABLE, {"family": ""}, "{file}: column family: no value at row 0, counted from 0"),
    "every function": (TABLE, {"function": "*"}, "{file}: column function holds '*', which stands for all functions"),
    "negative neuron": (changed("neuron", -1), {}, "{file}: column neuron holds negative numbers"),
    "negative expert": (changed("expert", -1), {}, "{file}: column expert holds negative numbers"),
    "repeated": (
        changed("neuron", 4), {},
        "{file}: column score has several values for stack encoder, layer 0, neuron 4, family task, function sport",
    ),
    "gap": (
        changed("neuron", 300), {},
        "{file}: encoder layer 0 has 300 neurons for task/sport, but neuron 300 is among them; every neuron from 0 on",
    ),
    "part of a function": (
        LONG.filter(~((pl.col("neuron") == 299) & (pl.col("function") == "b"))), {"stack": None, "function": None},
        "{file}: decoder layer 0 has 299 neurons for task/b, but neuron 299 is among them",
    ),
    "unknown stack": (TABLE, {"stack": "middle"}, "no stack 'middle' in {file}; available: decoder, encoder"),
    "experts that differ": (
        LONG.with_columns(expert=pl.when(function="b").then(0).otherwise("expert")), {"stack": None, "function": None},
        "{file}: column expert has several values for stack decoder, layer 0, neuron 0",
    ),
    "no rows": (TABLE.head(0), {}, "{file} has no rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_whole_is_refused_in_one_line_and_nothing_is_written(write, store, name):
    data, given, message = REFUSED[name]
    file = write(data)
    with pytest.raises(NeuronlakeError, match=re.escape(message.format(file=file))) as caught:
        import_scores(file, store=store.path, **{"partition": "expert", **GIVEN, **given})
    assert isinstance(caught.value, AnalysisError | UnknownNameError)
    assert "\n" not in str(caught.value)
    assert not store.path.exists()


UNREADABLE = {
    "torn.parquet": ("PAR1", "cannot read {file}: "),
    "torn.csv": ('layer,neuron\n0,0,0\n"', "cannot read {file}: "),
    "empty.csv": ("", "cannot read {file}: empty CSV"),
    "header.csv": ("layer,neuron,score\n", "{file} has no rows"),
    "scores.json": ("{}", "{file} is neither .parquet nor .csv"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(write, store, name):
    text, message = UNREADABLE[name]
    file = write(text, name)
    with pytest.raises(AnalysisError, match=re.escape(message.format(file=file))) as caught:
        import_scores(file, store=store.path, **GIVEN)
    assert "\n" not in str(caught.value)
    assert not store.path.exists()


def test_a_file_that_is_not_there_is_refused(tmp_path, store):
    with pytest.raises(AnalysisError, match=r"cannot read .*gone\.csv: .*No such file"):
        import_scores(tmp_path / "gone.csv", store=store.path, **GIVEN)
