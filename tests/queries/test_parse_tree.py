from collections.abc import Iterator

import duckdb
import pytest

from neuronlake.queries.parse_tree import named, parse

KNOWN = {"labels", "layers", "runs", "texts"}


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select 'labels' as show, layers from runs order by step desc limit 3", {"runs"}),
        ("select step as duckdb_views from RUNS where model = 'show tables'", {"runs"}),
        ("with runs as (from runs) from runs", {"runs"}),
        ("from main.layers positional join (from texts)", {"layers", "texts"}),
        ('from "layers" where 1 in (select 1 from labels)', {"layers", "labels"}),
        ("describe runs", {"runs"}),
        ("desc select * from runs", {"runs"}),
        ("show runs", {"runs"}),
        ("summarize texts", {"texts"}),
        ("from query_table(['runs', 'layers'])", {"runs", "layers"}),
        ("from pragma_table_info('runs')", {"runs"}),
        ("pivot runs on step using count(*)", {"runs"}),
        ("unpivot runs on step", {"runs"}),
        ("select 1", set()),
        ("show tables", KNOWN),
        ("show all tables", KNOWN),
        ("show tables from main", KNOWN),
        ("describe", KNOWN),
        ("select * from (show tables)", KNOWN),
        ("from duckdb_columns()", KNOWN),
        ("from information_schema.tables", KNOWN),
        ("from SQLITE_MASTER", KNOWN),
        ("pivot duckdb_views() on internal using count(*)", KNOWN),
        ("pivot (show tables) on name", KNOWN),
    ],
)
def test_a_statement_names_what_it_reads_and_all_where_it_lists_the_catalog(
    connection: duckdb.DuckDBPyConnection, query: str, expected: set[str]
) -> None:
    assert named(parse(connection, query), query, KNOWN) == expected
