from pathlib import Path

import duckdb
import pytest

from neuronlake.errors import QueryError
from neuronlake.queries.database import Database
from neuronlake.queries.readonly import REFUSED_FUNCTIONS

REFUSED = (
    "copy runs to 'out.csv'",
    "copy (select 1) to 'out.parquet' (format parquet)",
    "COPY /* x */ (select 1) TO 'out.csv'",
    "copy (pivot (select 1 a, 2 b) on a using sum(b)) to 'out.csv'",
    "with x as (copy (select 1) to 'out.csv') select 1",
    "with x as materialized (copy (select 1) to 'out.csv') select 1",
    "with x as not materialized (\n-- c\ncopy (select 1) to 'out.csv') select 1",
    "with x(a) as (copy (select 1) to 'out.csv') select 1",
    "with é as (select 'ü'), x as /* ( */ ( /* ) */ copy (select 1) to 'out.csv') select 1",
    "with x using key (a) as (copy (select 1) to 'out.csv') values (1)",
    "with a as (select 1), x as (copy (from a) to 'out.csv') from a",
    "with x as (copy (select 1) to 'out.csv') pivot (select 1 a, 2 b) on a using sum(b)",
    "with x as (insert into runs values (1)) select 1",
    "explain analyze copy (select 1) to 'out.csv'",
    "/* x */ explain /* y */ analyze /* z */ copy (select 1) to 'out.csv'",
    "explain (analyze, format json) copy (select 1) to 'out.csv'",
    "explain (analyze true) with x as (copy (select 1) to 'out.csv') select 1",
    "explain analyze with x as (copy (select 1) to 'out.csv') select 1",
    "explain analyze create table t as select 1",
    "explain copy (select 1) to 'out.csv'",
    "explain analyze copy (pivot (select 1 a, 2 b) on a using sum(b)) to 'out.csv'",
    "select 1; copy (select 1) to 'out.csv'",
    "describe runs; copy runs to 'out.csv'",
    "from json_execute_serialized_sql(json_serialize_sql('with x as (copy (select 1) to ''out.csv'') select 1'))",
    "from \"json_execute_serialized_sql\" /* x */ ('{}')",
    "from system.main.json_execute_serialized_sql('{}')",
    "from query('from json_execute_serialized_sql(''{}'')')",
    "from enable_logging(storage = 'file', storage_path = 'logs')",
    "call enable_logging(storage = 'file', storage_path = 'logs')",
    "from enable_profiling(save_location = 'profile.json')",
    "pragma enable_profiling",
    "export database 'out'",
    "import database 'out'",
    "attach 'out.duckdb'",
    "attach 'out.duckdb' as o (type duckdb)",
    "detach memory",
    "update extensions",
    "update extensions (httpfs)",
    "install httpfs",
    "load httpfs",
    "load './x.duckdb_extension'",
    "set threads = 1",
    "set global lock_configuration = false",
    "reset threads",
    "set variable x = 1",
    "use memory",
    "create table t as select 1",
    "create table t as pivot (select 1 a, 2 b) on a using sum(b)",
    "create or replace view runs as select 1",
    "create macro f(a) as a",
    "create persistent secret s (type http)",
    "insert into runs values (1)",
    "insert into runs pivot (select 1 a, 2 b) on a using sum(b)",
    "update runs set model = ''",
    "delete from runs",
    "truncate runs",
    "merge into runs using (select 1 a) on true when matched then delete",
    "drop view runs",
    "alter view runs rename to r",
    "comment on view runs is 'x'",
    "pragma threads = 1",
    "pragma database_list",
    "call pragma_version()",
    "prepare p as select 1",
    "execute p",
    "checkpoint",
    "from checkpoint()",
    "vacuum",
    "analyze",
    "begin",
    "select getenv('HOME')",
    "select write_log('x')",
    "from arrow_scan(1, 2, 3)",
    "from destroy_external_resource('f', 'x')",
    "",
    " -- nothing",
    ";",
)

ALLOWED = (
    "select 1",
    "select 1;",
    "; select 1 -- done",
    "from runs",
    "(select 1) union all (select 2)",
    "with a as (select 1 as copy) select copy from a",
    "select 'with x as (copy' as text, 1 as \"insert\"",
    "values (1), (2)",
    "table runs",
    "describe runs",
    "desc runs",
    "show tables",
    "summarize runs",
    "explain select * from runs",
    "explain analyze select * from runs",
    "explain (format json) select 1",
    "explain (select 1)",
    "pivot runs on step using count(*)",
    "explain pivot runs on step using count(*)",
    "with p as (pivot runs on step using count(*)) from p",
    "unpivot (select 1 as a, 2 as b) on a, b",
    "from query_table('runs')",
    "from duckdb_views()",
    "select current_setting('threads')",
)

READS = {
    "duckdb_", "pragma_", "read_", "parquet_", "json_each", "json_tree", "generate_series", "glob", "histogram",
    "icu_calendar_names", "pg_timezone_names", "query_table", "range", "repeat", "seq_scan", "sniff_csv", "summary",
    "test_all_types", "test_vector_types", "unnest", "which_secret",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("query", REFUSED)
def test_what_would_change_something_is_refused_and_leaves_no_file(
    database: Database, folder: Path, query: str
) -> None:
    before = sorted(database.store.path.rglob("*"))
    with pytest.raises(QueryError) as caught:
        database.sql(query)
    assert "\n" not in str(caught.value)
    assert sorted(folder.rglob("*")) == []
    assert sorted(database.store.path.rglob("*")) == before


@pytest.mark.parametrize("query", ALLOWED)
def test_what_only_reads_is_allowed(database: Database, query: str) -> None:
    database.sql(query)


def test_the_refusal_says_what_and_names_the_way_out(database: Database) -> None:
    with pytest.raises(QueryError, match=r"^copy is refused: .*-o FILE$"):
        database.sql("with x as (copy (select 1) to 'out.csv') select 1")


def test_a_file_the_query_names_is_read(database: Database, folder: Path) -> None:
    (folder / "own.csv").write_text("a,b\n1,x\n")
    assert database.sql("from 'own.csv'").rows() == [(1, "x")]
    assert database.sql("select content from read_text('own.csv')").rows() == [("a,b\n1,x\n",)]


@pytest.mark.parametrize("address", ["https://example.com/a.parquet", "s3://bucket/a.parquet", "hf://datasets/a/b.csv"])
def test_a_remote_file_is_refused(database: Database, address: str) -> None:
    with pytest.raises(QueryError, match="only local files can be read"):
        database.sql(f"from '{address}'")


def test_a_database_file_that_is_not_there_is_not_made(database: Database, folder: Path) -> None:
    with pytest.raises(QueryError, match=r"none\.duckdb"):
        database.sql("from 'none.duckdb'")
    assert list(folder.iterdir()) == []


def test_the_engine_itself_refuses_settings_logs_and_extensions(database: Database, folder: Path) -> None:
    for statement in ("set threads = 1", "from enable_logging(storage = 'file', storage_path = 'logs')", "load httpfs"):
        with pytest.raises(duckdb.Error):
            database.connection.execute(statement)
    assert list(folder.iterdir()) == []


def test_each_table_function_of_this_duckdb_is_known_to_read_or_refused(database: Database) -> None:
    query = "select distinct function_name from duckdb_functions() where function_type = 'table'"
    names = {name for (name,) in database.connection.execute(query).fetchall()} - REFUSED_FUNCTIONS
    assert {name for name in names if not name.startswith(tuple(READS))} == set()


def test_a_frame_of_the_caller_is_not_a_table(database: Database) -> None:
    frame = database.sql("select 1 as a").pl()
    assert frame.height == 1
    with pytest.raises(QueryError, match="no table or view 'frame'"):
        database.sql("from frame")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select '\udc80'", "not UTF-8 text: character 9"),
        ("select '" + "x" * 1_000_000 + "'", "1,000,009 characters"),
        ("from (select * " * 50_000 + "from runs" + ")" * 50_000, "characters|brackets"),
        ("select " + "[" * 20_000 + "1" + "]" * 20_000, "more than 1,000 brackets"),
        ("select " + "(" * 5_000, "more than 1,000 brackets"),
        ("select " + "1 + " * 20_000 + "1", "depth limit"),
        ("select 'abc", "unterminated string"),
        ("with x as\x00(copy (select 1) to 'out.csv') select 1", "NUL at character 10"),
        ("update extensions", "^update is refused: .*-o FILE$"),
    ],
    ids=["surrogate", "long", "subqueries", "lists", "open", "deep", "quote", "nul", "extensions"],
)
def test_what_duckdb_would_stumble_over_is_one_line(database: Database, query: str, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        database.sql(query)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
