"""Conditions on runs become ids of runs, by which files are chosen; the rows of a statement stay the same."""

import re
from collections.abc import Set
from pathlib import Path

import numpy as np
import pytest

from neuronlake.errors import StoreError
from neuronlake.queries import catalog
from neuronlake.queries.database import Database
from neuronlake.queries.parse_tree import narrowed, parse
from neuronlake.schema.store import Store

A, B = "a" * 16, "b" * 16


def narrow(database: Database, query: str) -> tuple[str, Set[str] | None]:
    """Return a statement with what is added to it, and the runs of whose files it reads."""
    database.make("runs")
    tree = parse(database.connection, query) or {}
    return narrowed(database.connection, query, tree, lambda of_runs, _: sorted(
        row[0] for row in database.connection.execute(of_runs).fetchall()
    ))  # fmt: skip


def ids(database: Database, query: str) -> str:
    """Return what is added to a statement, the ids in it."""
    found, _ = narrow(database, query)
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
        "select * from layers tablesample reservoir(2 rows) where step = 0",
    ],
)
def test_other_statements_stay_as_they_are(database: Database, query: str) -> None:
    assert ids(database, query) == ""


@pytest.mark.parametrize(
    ("query", "runs"),
    [
        ("from specialization where revision = 'step1000'", {B}),
        ("from specialization s join runs using (run_id) where runs.step = 0", {A}),
        ("from layers a, neurons b where a.step = 0 and b.revision = 'step1000'", {A, B}),
        ("from layers where revision = 'none'", set()),
        ("from layers a, neurons b where a.step = 0", None),
        ("from layers, runs where layers.step = 0", None),
        ("from layers, corpora where layers.step = 0", None),
        ("from layers where step = 0 and layer < (select max(layer) from layers)", None),
        ("from layers where step = 0 union all from layers where step = 1000", None),
        ("from layers join function_stability using (model) where layers.step = 0", None),
        ("from layers", None),
    ],
)
def test_a_statement_reads_files_of_its_runs_alone_where_no_table_may_need_others(
    database: Database, query: str, runs: Set[str] | None
) -> None:
    assert narrow(database, query)[1] == runs


@pytest.mark.slow
def test_views_read_the_same_rows_of_a_run_from_its_files_alone(filled: Store, database: Database) -> None:
    alone = Database(filled)
    asked = [name for name in catalog.describe() if {"revision", "run_id"} <= {*catalog.describe()[name][1]}]
    for name in asked:
        query = f"from {name} where revision = 'step1000'"
        rows = sorted(alone.sql(query).rows(), key=repr)
        assert rows == sorted(database.sql(query).rows(), key=repr), name
    assert len(asked) > 20
    assert alone.sql("select count(*) from query_table('ru' || 'ns')").rows() == [(2,)]


def test_tables_of_some_runs_are_no_other_statements(filled: Store) -> None:
    database = Database(filled)
    narrow_query = "select distinct run_id from layers where revision = 'step1000'"
    assert database.sql(narrow_query).rows() == [(B,)]
    assert database.sql("select distinct run_id from query_table('lay' || 'ers') order by all").rows() == [(A,), (B,)]
    assert database.sql(narrow_query).rows() == [(B,)]
    both = f"{narrow_query} union all select count(*)::varchar from query_table('ru' || 'ns')"
    assert database.sql(both).rows() == [(B,), ("2",)]
    assert database.sql("select distinct run_id from layers order by all").rows() == [(A,), (B,)]


@pytest.mark.parametrize(
    "query",
    [
        "select count(control_lift) > 0 from specialization where revision = 'step1000'",
        "select count(*) > 0 from control_best where revision = 'step1000'",
    ],
)
def test_what_is_added_to_a_run_is_read_after_a_refresh(tmp_path: Path, run, controls, query: str) -> None:
    store = Store(tmp_path / "store")
    run(store, B, revision="step1000", step=1000)
    database = Database(store)
    assert database.sql(query).rows() == [(False,)]
    tops = np.random.default_rng(3).integers(0, 50, (2, 2, 5, 1)) * 2 + np.arange(2)
    controls(store, B, {"text": tops, "word": tops + 100}, revision="step1000", step=1000)
    assert database.sql(query).rows() == [(False,)]
    database.refresh()
    assert database.sql(query).rows() == [(True,)]


def test_no_file_of_another_run_is_looked_at(tmp_path: Path, run) -> None:
    store = Store(tmp_path / "store")
    run(store, A, revision="step0", step=0)
    run(store, B, revision="step1000", step=1000)
    for path in [*store.files("layers", job=A), *store.files("runs", job=A)]:
        path.unlink()
    assert Database(store).sql("select distinct run_id from layers where revision = 'step1000'").rows() == [(B,)]
    with pytest.raises(StoreError, match="is committed but missing"):
        Database(store).sql("from layers where revision = 'step0'")


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
