"""`neuronlake tables`, `materialize`, `check` and `shell`: a store as it lies there."""

import csv
import io
import json

import duckdb
import pytest

from neuronlake.queries import catalog
from neuronlake.schema.tables import TABLES


@pytest.fixture
def names(succeeds, made_store):
    """Return a function that returns the first column of what a command lists."""

    def run(*arguments):
        rows = csv.DictReader(io.StringIO(succeeds("--store", made_store, *arguments, "--format", "csv")))
        return [row["name"] for row in rows]

    return run


def test_every_table_and_view_is_listed(names):
    assert names("tables") == list(TABLES)
    assert sorted(names("tables", "--views")) == sorted(view.name for view in catalog.views())


def test_the_columns_of_a_table_or_view_are_listed(names):
    assert names("tables", "runs") == list(TABLES["runs"].column_names)
    assert names("tables", "specialization") == list(catalog.view("specialization").columns)


def test_a_table_or_view_that_is_not_there_is_one_clear_line(fails, made_store):
    assert fails("--store", made_store, "tables", "run") == "no table or view 'run'; did you mean 'runs'?"
    assert fails("--store", made_store, "tables", "specialisation").endswith("did you mean 'specialization'?")


def test_the_committed_files_of_a_table_are_listed(succeeds, is_usage_error, made_store):
    rows = json.loads(succeeds("--store", made_store, "tables", "neurons", "--files", "--format", "json"))
    (file,) = made_store.glob("data/neurons/**/*.parquet")
    assert rows == [{"path": str(file)}]
    assert json.loads(succeeds("--store", made_store, "tables", "experts", "--files", "--format", "json")) == []
    assert "takes a NAME" in is_usage_error("--store", made_store, "tables", "--files")


def test_the_script_of_the_views_runs_in_a_plain_connection(succeeds, made_store):
    script = succeeds("--store", made_store, "tables", "--sql")
    query = "select layer, neuron, function, lift from specialization order by layer, neuron"
    expected = json.loads(succeeds("--store", made_store, "sql", query, "--format", "json"))
    with duckdb.connect() as connection:
        connection.execute(script)
        rows = connection.execute(query).fetchall()
    assert len(rows) == 128
    assert [row[:3] for row in rows] == [(row["layer"], row["neuron"], row["function"]) for row in expected]
    assert [row[3] for row in rows] == pytest.approx([row["lift"] for row in expected], abs=1e-6)


def test_a_view_is_materialised_once(succeeds, store):
    query = ("sql", "from specialization order by layer, neuron")
    before = succeeds("--store", store, *query)
    (first,) = succeeds("--store", store, "materialize").splitlines()
    assert first.startswith("specialization of run ")
    files = {path: path.stat().st_mtime_ns for path in store.glob("derived/**/*.parquet")}
    assert succeeds("--store", store, "materialize").startswith("specialization of run ")
    assert {path: path.stat().st_mtime_ns for path in store.glob("derived/**/*.parquet")} == files
    assert succeeds("--store", store, *query) == before
    rows = json.loads(succeeds("--store", store, "tables", "--views", "--format", "json"))
    assert [row["name"] for row in rows if row["is_materialized"]] == ["specialization"]


def test_several_views_are_materialised_by_name(succeeds, store):
    lines = succeeds("--store", store, "materialize", "best_predictivity", "top_neurons").splitlines()
    assert [line.split()[0] for line in lines] == ["best_predictivity", "top_neurons"]
    assert sorted(path.name for path in (store / "derived").iterdir()) == ["best_predictivity", "top_neurons"]


@pytest.mark.parametrize("views", [("nosuch",), ("specialization", "nosuch"), ("runs",)], ids=" ".join)
def test_a_view_that_is_not_there_is_refused_before_any_is_materialised(fails, store, contents, views):
    before = contents(store)
    assert fails("--store", store, "materialize", *views).startswith(f"no view '{views[-1]}'")
    assert contents(store) == before


def test_a_good_store_is_said_to_be_one(neuronlake, made_store):
    result = neuronlake("--store", made_store, "check")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith(" committed files, 0 problems\n")


def test_what_is_wrong_with_a_store_is_named_file_by_file(neuronlake, store):
    (altered,) = store.glob("data/neuron_functions/**/*.parquet")
    content = bytearray(altered.read_bytes())
    content[100] ^= 1
    altered.write_bytes(content)
    (missing,) = store.glob("data/runs/**/*.parquet")
    missing.unlink()
    stray = store / "data" / "stray.parquet"
    stray.touch()
    result = neuronlake("--store", store, "check")
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    lines = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert lines == {
        altered.relative_to(store).as_posix(): "altered since it was committed (size or sha256 differs)",
        missing.relative_to(store).as_posix(): "missing",
        stray.relative_to(store).as_posix(): "in no commit, and so invisible to queries",
    }
    assert result.stderr.endswith(" committed files, 3 problems\n")


def test_what_killed_jobs_left_is_named_and_removed(neuronlake, store):
    (store / ".staging" / "gone").mkdir()
    (store / "README.md").unlink()
    result = neuronlake("--store", store, "check")
    assert result.exit_code == 1
    assert result.stdout == "README.md: no card counts the rows of the commits; 'check --repair' writes it\n"
    assert ".staging/gone: left by a job that was killed; " in result.stderr
    result = neuronlake("--store", store, "check", "--repair")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(
        ".staging/gone: removed: left by a job that was killed\nREADME.md: written anew from the commits\n"
    )
    assert list((store / ".staging").glob("*/")) == []


def test_a_commit_that_cannot_be_read_is_one_clear_line(fails, store):
    (store / "commits" / "broken.json").write_text("{")
    for command in (("check",), ("sql", "from runs"), ("corpus", "list")):
        assert "broken.json" in fails("--store", store, *command)


def test_runs_and_jobs_are_listed_and_removed(succeeds, fails, store):
    (run,) = json.loads(succeeds("--store", store, "runs", "--format", "json"))
    listed = json.loads(succeeds("runs", "--all", "--store", store, "--format", "json"))
    assert [job["kind"] for job in listed] == ["corpus", "run"]
    assert run["size_bytes"] == listed[1]["size_bytes"]
    assert fails("--store", store, "remove", "words").endswith(
        f": run {run['run_id']}; --with-dependents removes them too"
    )
    said = succeeds("--store", store, "remove", "words", "--with-dependents", "--dry-run")
    assert said.startswith(f"run {run['run_id']}: would be removed\ncorpus corpus-words: would be removed\n2 jobs, ")
    succeeds("--store", store, "remove", run["run_id"][:6], "words")
    assert succeeds("--store", store, "runs", "--all", "--format", "json") == "[\n]\n"
    assert succeeds("--store", store, "check") == ""
