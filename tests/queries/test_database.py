import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Never

import duckdb
import pyarrow.parquet as pq
import pytest

from neuronlake.errors import QueryError, StoreError
from neuronlake.queries import catalog
from neuronlake.queries.database import Database
from neuronlake.queries.result import check_files
from neuronlake.schema.store import Store
from neuronlake.schema.tables import TABLES


def test_a_result_comes_as_rows_dictionaries_polars_arrow_and_pandas(database: Database) -> None:
    result = database.sql("select revision, step from runs order by step")
    assert result.columns == ("revision", "step")
    assert result.rows() == [("step0", 0), ("step1000", 1000)]
    assert list(result) == [{"revision": "step0", "step": 0}, {"revision": "step1000", "step": 1000}]
    assert len(result) == 2
    assert result.pl().rows() == result.rows()
    assert result.arrow().to_pylist() == list(result)
    assert result.df().to_dict("records") == list(result)


def test_a_query_takes_parameters_by_position_and_by_name(database: Database) -> None:
    assert database.sql("select revision from runs where step = ?", [1000]).rows() == [("step1000",)]
    assert database.sql("select revision from runs where step = $step", {"step": 0}).rows() == [("step0",)]


def test_times_come_as_python_values_in_utc(database: Database) -> None:
    (started,) = database.sql("select started_at from runs limit 1").rows()[0]
    assert started.isoformat() == "1970-01-01T00:00:00+00:00"


def test_every_table_of_an_empty_store_is_an_empty_view_with_the_declared_columns(store: Store) -> None:
    store.path.mkdir()
    database = Database(store)
    for table in TABLES.values():
        result = database.sql(f"from {table.name}")
        assert (result.columns, len(result)) == (table.column_names, 0)
    for view in catalog.views():
        assert len(database.sql(f"from {view.name}")) == 0


def test_a_filled_table_has_the_declared_types(database: Database) -> None:
    found = {row[0]: row[1].lower() for row in database.sql("describe neuron_functions").rows()}
    assert found == {column.name: column.duckdb_type for column in TABLES["neuron_functions"].columns}


def test_the_catalog_lists_all_tables_and_views_with_comments(database: Database) -> None:
    names = {row[0] for row in database.sql("show tables").rows()}
    assert names == {*TABLES, "unlisted_scores", *(view.name for view in catalog.views())}
    query = "select comment from duckdb_views() where view_name = 'layers'"
    assert database.sql(query).rows() == [(TABLES["layers"].description,)]


def test_a_column_added_after_a_file_was_written_reads_as_null(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16)
    run(store, "b" * 16, revision="new")
    _rewrite_without(store, "runs", "n_dropped", n_files=1)
    assert Database(store).sql("select n_dropped from runs order by run_id").rows() == [(None,), (0,)]
    _rewrite_without(store, "runs", "n_dropped", n_files=2)
    assert Database(store).sql("select n_dropped from runs order by run_id").rows() == [(None,), (None,)]


def _rewrite_without(store: Store, table: str, column: str, *, n_files: int) -> None:
    for path in store.files(table)[:n_files]:
        data = pq.read_table(path, partitioning=None)
        if column in data.column_names:
            pq.write_table(data.drop_columns([column]), path)


def test_what_is_not_committed_does_not_exist(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16)
    path = store.files("runs")[0]
    path.with_name("stray.parquet").write_bytes(path.read_bytes())
    assert len(Database(store).sql("from runs")) == 1


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("from specialisation", "no table or view 'specialisation'; did you mean 'specialization'?"),
        ("select modle from runs", 'Candidate bindings: "model"'),
        ("selec 1", 'syntax error at or near "selec"'),
        ("select cast('a' as int)", "Could not convert string 'a' to INT32"),
        ("from 'nosuch.csv'", "nosuch.csv"),
    ],
)
def test_an_error_is_one_line_with_what_duckdb_suggests(database: Database, query: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        database.sql(query)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_store_that_is_not_there_is_refused_whatever_is_asked(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .*none"):
        Database(tmp_path / "none")


def made(database: Database) -> set[str]:
    rows = database.connection.execute("select view_name from duckdb_views() where not internal").fetchall()
    return {name for (name,) in rows}


@pytest.mark.parametrize(
    "query", ["from runs order by step desc", "explain from runs", "from query_table('ru' || 'ns')"]
)
def test_only_what_a_statement_names_is_made(store: Store, query: str) -> None:
    store.path.mkdir()
    database = Database(store)
    database.sql(query)
    assert made(database) == {"runs"}


def test_a_misspelt_name_makes_no_view(store: Store) -> None:
    store.path.mkdir()
    database = Database(store)
    with pytest.raises(QueryError, match=r"no table or view 'speciali\\u202ezation'; did you mean 'specialization'"):
        database.sql('from "speciali\u202ezation"')
    assert made(database) == set()


def test_a_missing_file_is_named(store: Store, run: Callable[..., None]) -> None:
    run(store, "a" * 16)
    path = store.files("neuron_functions")[0]
    path.unlink()
    with pytest.raises(StoreError, match=f"{path} is committed but missing"):
        Database(store).sql("from specialization")


@pytest.mark.parametrize("damage", ["truncate", "empty", "zeros", "footer"])
def test_a_corrupt_file_is_named(store: Store, run: Callable[..., None], damage: str) -> None:
    run(store, "a" * 16)
    path = store.files("neuron_functions")[0]
    content = path.read_bytes()
    changed = {
        "truncate": content[: len(content) // 2],
        "empty": b"",
        "zeros": content[:1000] + bytes(len(content) - 6000) + content[-5000:],
        "footer": content[:-500] + bytes(400) + content[-100:],
    }[damage]
    path.write_bytes(changed)
    with pytest.raises(StoreError, match=f"{path} is corrupt"):
        Database(store).sql("select sum(ap), max(function), sum(auroc) from neuron_functions")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "cannot read .*: Permission denied"),
        (OSError(errno.EMFILE, "Too many open files"), "cannot read .*: Too many open files"),
    ],
)
def test_a_whole_file_that_cannot_be_read_is_not_called_corrupt(
    store: Store, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, failure: OSError, message: str
) -> None:
    run(store, "a" * 16, n_neurons=5)
    path = store.files("runs")[0]

    def fail(*_: object) -> Never:
        raise failure

    database = Database(store)
    (committed,) = database.committed["runs"]
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(StoreError, match=f"^{message}$"):
        check_files(duckdb.IOException(f'Cannot open file "{path}"'), [(path, committed)])


def test_too_many_open_files_are_said_to_be_that() -> None:
    error = duckdb.IOException('IO Error: Cannot open file "a.parquet": Too many open files')
    with pytest.raises(StoreError, match=r"^too many open files: this process may open \d+ at once \(ulimit -n\)"):
        check_files(error, [])


def test_a_store_in_a_folder_with_a_quote_in_its_name_opens(tmp_path: Path, run: Callable[..., None]) -> None:
    store = Store(tmp_path / "it's a store")
    run(store, "a" * 16)
    assert len(Database(store).sql("from specialization")) == 400


def test_a_query_that_reads_no_table_imports_no_data_library(tmp_path: Path) -> None:
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "from neuronlake.queries import output\n"
        "from neuronlake.queries.database import Database\n"
        "output.write(Database(sys.argv[2]).sql('select 1 as a'), sys.stdout, format='csv')\n"
        "print(json.dumps(sorted({'pyarrow', 'pandas', 'polars', 'torch', 'rich', 'numpy'} & set(sys.modules))))\n"
    )
    source = Path(__file__).resolve().parents[2] / ".src"
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(tmp_path)], capture_output=True, text=True, check=True
    )
    header, value, modules = done.stdout.splitlines()
    assert (header, value, json.loads(modules)) == ("a", "1", [])


def test_ctrl_c_stops_a_query_and_the_next_one_runs(database: Database) -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        database.sql("select count(*) from range(1000000) as a, range(30000) as b where a.range + b.range = -1")
    timer.join()
    assert database.sql("select 1").rows() == [(1,)]


@pytest.mark.parametrize("view", [view for view in catalog.views() if view.needs], ids=lambda view: view.name)
def test_a_view_that_needs_a_table_has_the_same_columns_without_it(
    database: Database, empty: Database, view: catalog.View
) -> None:
    described = f"describe from {view.macro}('lift')" if view.macro else f"describe from {view.name}"
    assert empty.sql(described).rows() == database.sql(described).rows()
    assert empty.sql(f"from {view.name}").rows() == []
