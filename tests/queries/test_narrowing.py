"""Conditions on runs become ids of runs, by which files are chosen; the rows of a statement stay the same."""

import re

import pytest

from neuronlake.queries import catalog
from neuronlake.queries.database import Database
from neuronlake.queries.parse_tree import narrowed, parse

A, B = "a" * 16, "b" * 16


def ids(database: Database, query: str) -> str:
    """Return what is added to a statement, the ids in it."""
    database.make("runs")
    tree = parse(database.connection, query) or {}
    found = narrowed(database.connection, query, tree, lambda of_runs, _: sorted(
        row[0] for row in database.connection.execute(of_runs).fetchall()
    ))  # fmt: skip
    return "" if found == query else re.split("run_id (?:= |IN [(])", found)[-1].partition(")")[0]


@pytest.mark.parametrize(
    ("query", "runs"),
    [
        ("select * from layers where revision = 'step1000'", [B]),
        ("select * from layers as l where l.step < 1000 and layer = 1", [A]),
        ("select * from layers where step in (0, 1000) or model like 't%'", [A, B]),
        ("select * from layers where revision = 'none'", ["NULL"]),
        ("select n_neurons from layers join runs using (run_id) where runs.revision = 'step1000'", [B]),
        ("select n_neurons from layers, runs r where layers.run_id = r.run_id and r.weights_sha256 = 'w0'", [A]),
        ("select n_neurons from runs r join layers l on l.run_id = r.run_id and l.layer = 0 where r.step = 0", [A]),
        ("with tops as (select * from layers where step = 0) select * from tops", [A]),
        ("select (select max(n_neurons) from layers where step = 0) as n", [A]),
    ],
)
def test_a_condition_on_runs_names_them(database: Database, query: str, runs: list[str]) -> None:
    assert ids(database, query).replace("'", "").split(", ") == runs
    database.make("layers")
    assert sorted(database.sql(query).rows(), key=repr) == sorted(
        database.connection.execute(query).fetchall(), key=repr
    )


@pytest.mark.parametrize(
    "query",
    [
        "select * from layers where layer = 0",
        "select * from layers where run_id = 'aaaaaaaaaaaaaaaa'",
        "select * from layers where step = 0 or layer = 0",
        "select * from layers where not (step = random())",
        "select * from layers where step = (select min(step) from runs)",
        "select * from runs left join layers using (run_id) where layers.step is null",
        "select count(*) from layers left join neurons n using (run_id) where layers.step = 0",
        "select * from layers join runs using (model) where runs.step = 0",
        "with layers as (select 1 as step) select * from layers where step = 0",
        "select * from partitions where revision = 'step0'",
        "select * from corpora where exists (select 1 from layers where corpora.corpus = 'step0')",
        "pivot layers on layer using count(*)",
    ],
)
def test_other_statements_stay_as_they_are(database: Database, query: str) -> None:
    assert ids(database, query) == ""


def test_rows_of_a_run_have_its_model_revision_and_step(database: Database) -> None:
    of_runs = ("run_id", "model", "revision", "step")
    for name, (_, columns) in catalog.describe().items():
        grain = catalog.TABLES[name].grain if name in catalog.TABLES else catalog.view(name).grain
        if "run_id" in grain and {*of_runs} <= {*columns}:
            keys = ", ".join(of_runs)
            others = f"select distinct {keys} from {name} except select {keys} from runs"
            assert database.sql(others).rows() == [], name


def test_a_join_to_runs_opens_the_files_of_its_runs_alone(database: Database) -> None:
    query = "from specialization as s join runs using (run_id) where runs.revision = 'step1000'"
    plan = str(database.sql(f"explain analyze {query}").rows()[0][1])
    assert plan.count("Scanning Files: 1/2") == plan.count("Scanning Files:") > 3


@pytest.mark.parametrize(
    "query",
    [
        "select * from layers as l(model, run_id, revision, step) where l.model = 'aaaaaaaaaaaaaaaa'",
        f"select {' + '.join(['1'] * 480)}",
    ],
)
def test_what_cannot_be_narrowed_is_asked_as_it_is(database: Database, query: str) -> None:
    assert ids(database, query) == ""
    assert database.sql(query).rows() is not None


def test_a_result_without_a_name_of_its_own_is_named_as_ever(database: Database) -> None:
    query = "select layer, (select count(*) from layers where step = 0) from layers"
    assert "run_id" not in " ".join(database.sql(query).columns)


def test_a_condition_that_cannot_be_asked_of_all_runs_is_left_to_the_statement(database: Database) -> None:
    assert database.sql("select layer from layers where model = 'none' and revision = 5").rows() == []
