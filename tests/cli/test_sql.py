"""`neuronlake sql`: rows in every format, and what is refused."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

QUERY = "select model, revision, step, is_random_init, round(1 / 4, 2) as share from runs"


@pytest.fixture
def sql(succeeds, made_store):
    def run(*arguments, **options):
        return succeeds("--store", made_store, "sql", *arguments, **options)

    return run


@pytest.fixture
def refused(fails, made_store, contents):
    """Return a function that runs SQL that is to fail and to leave the store as it was, and returns the message."""

    def run(*arguments):
        before = contents(made_store)
        line = fails("--store", made_store, "sql", *arguments)
        assert contents(made_store) == before
        return line

    return run


def test_a_table_is_aligned(sql):
    assert sql(QUERY) == (
        "model      revision  step  is_random_init   share\n"
        "tiny-bert  main            false           0.2500\n"
    )  # fmt: skip


def test_csv_has_null_as_an_empty_field(sql):
    assert sql(QUERY, "--format", "csv") == (
        "model,revision,step,is_random_init,share\ntiny-bert,main,,false,0.25\n"
    )  # fmt: skip


def test_json_is_a_list_of_records(sql):
    assert json.loads(sql(QUERY, "--format", "json")) == [
        {"model": "tiny-bert", "revision": "main", "step": None, "is_random_init": False, "share": 0.25}
    ]


def test_no_rows_are_still_a_heading_or_an_empty_list(sql):
    query = "select run_id, layer from layers where false"
    assert sql(query).split() == ["run_id", "layer"]
    assert sql(query, "--format", "csv") == "run_id,layer\n"
    assert json.loads(sql(query, "--format", "json")) == []


def test_the_suffix_of_the_file_tells_the_format(sql):
    for name in ("rows.csv", "rows.json", "rows.parquet"):
        assert sql(QUERY, "-o", name) == ""
    assert Path("rows.csv").read_text() == sql(QUERY, "--format", "csv")
    assert Path("rows.json").read_text() == sql(QUERY, "--format", "json")
    assert pq.read_table("rows.parquet").select(["model", "step"]).to_pylist() == [{"model": "tiny-bert", "step": None}]
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["rows.csv", "rows.json", "rows.parquet"]


def test_the_format_named_wins_over_the_suffix(sql):
    sql(QUERY, "--format", "csv", "--output", "rows.txt")
    sql(QUERY, "--format", "parquet", "--output", "rows")
    assert Path("rows.txt").read_text() == sql(QUERY, "--format", "csv")
    assert pq.read_table("rows").num_rows == 1


def test_a_dash_reads_the_query_from_standard_input(sql):
    assert sql("-", "--format", "csv", standard_input="select 42 as answer;\n") == "answer\n42\n"


def test_files_beside_the_store_are_read(sql, corpus_file):
    assert sql(f"select count(*) as n from '{corpus_file}'", "--format", "csv") == "n\n10\n"


@pytest.mark.parametrize(
    "query",
    [
        "copy runs to 'out.csv'",
        "copy (select 1) to 'out.parquet'",
        "attach 'out.db'",
        "install httpfs",
        "load httpfs",
        "set threads = 1",
        "create table mine as select 1",
        "insert into runs select * from runs",
        "delete from runs",
        "update runs set model = 'x'",
        "drop view runs",
        "export database 'out'",
        "pragma database_list",
        "call duckdb_settings()",
        "explain analyze copy runs to 'out.csv'",
    ],
)
def test_a_statement_that_would_change_something_is_refused_with_the_way_out(refused, query):
    line = refused(query)
    assert "is refused" in line
    assert "-o FILE" in line
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("from specialisation", "no table or view 'specialisation'; did you mean 'specialization'?"),
        ("select modle from runs", '"model"'),
        ("selec 1", 'syntax error at or near "selec"'),
        ("select 1; select 2", "2 statements in one query"),
        ("", "there is no SQL in the query"),
        ("/* nothing */", "there is no SQL in the query"),
        ("from 'absent.parquet'", "absent.parquet"),
        ("from read_csv('absent.csv')", "absent.csv"),
        ("from 'https://example.com/rows.csv'", "https://example.com/rows.csv"),
        ("select cast('a' as integer)", "Could not convert string 'a'"),
        ("select error('boom')", "boom"),
    ],
)
def test_sql_that_cannot_be_run_is_one_clear_line(refused, query, message):
    assert message in refused(query)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "rows.txt"), "cannot tell a format from 'rows.txt'; name it .csv, .json or .parquet"),
        (("-o", "rows"), "cannot tell a format from 'rows'"),
        (("-o", "absent/rows.csv"), "cannot write absent/rows.csv: No such file or directory"),
        (("-o", "absent/rows.parquet"), "cannot write absent/rows.parquet"),
        (("-o", "/proc/rows.csv"), "cannot write /proc/rows.csv"),
        (("--format", "parquet"), "parquet cannot be written as text; use -o FILE.parquet"),
    ],
)
def test_a_place_or_format_that_does_not_serve_is_one_clear_line(refused, arguments, message):
    assert message in refused(QUERY, *arguments)
    assert list(Path.cwd().iterdir()) == []


def test_a_query_that_fails_leaves_the_file_as_it_was(refused):
    Path("rows.csv").write_text("mine")
    refused("select error('boom')", "-o", "rows.csv")
    assert [(path.name, path.read_text()) for path in Path.cwd().iterdir()] == [("rows.csv", "mine")]


def test_a_committed_file_that_is_corrupt_is_named(fails, store):
    for name, table in (("neuron_functions", "neuron_functions"), ("specialization", "neuron_best")):
        (path,) = store.glob(f"data/{table}/**/*.parquet")
        path.write_bytes(path.read_bytes()[:-10])
        assert fails("--store", store, "sql", f"from {name}") == (
            f"{path} is corrupt: it differs from what was committed"
        )


def test_a_committed_file_that_is_missing_is_named(fails, store):
    (path,) = store.glob("data/runs/**/*.parquet")
    path.unlink()
    assert fails("--store", store, "sql", "from runs") == f"{path} is committed but missing"


def test_what_is_damaged_elsewhere_is_no_hindrance(succeeds, store):
    (path,) = store.glob("data/neuron_functions/**/*.parquet")
    path.write_bytes(b"junk")
    assert "tiny-bert" in succeeds("--store", store, "sql", "from runs")
