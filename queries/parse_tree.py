"""What a statement names, from DuckDB's own parse tree: to bind it would fail while what it reads is not there yet."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

__all__ = ["named", "source_names"]

# A path at a time: DuckDB takes no list of paths with wildcards.
_NAMES = """
select
    tree ->> '$.error' = 'true' as has_no_tree,
    len(list_intersect(json_extract_string(tree, '$..show_type'), ['SHOW_SPECIAL', 'SHOW_FROM'])) > 0 as shows_tables,
    list_concat(
        json_extract_string(tree, '$..table_name'),
        json_extract_string(tree, '$..schema_name'),
        json_extract_string(tree, '$..function_name'),
        json_extract_string(tree, '$..function..text')
    ) as names,
from (select json_serialize_sql(?) as tree)
"""
_SOURCES = """
select
    json_extract_string(tree, '$..table_name') as tables,
    json_extract_string(tree, '$..cte_map.map[*].key') as ctes,
from (select json_serialize_sql(?) as tree)
"""
# How the names of schemas, views and functions begin that list what the database holds.
_CATALOG = ("duckdb_", "information_schema", "pg_", "sqlite_")


def named(connection: "duckdb.DuckDBPyConnection", query: str, known: Iterable[str]) -> frozenset[str]:
    """Return which of the known tables and views a statement names; all of them where it lists the catalog.

    Parameters
    ----------
    connection
        Any connection.
    query
        One statement. Of a PIVOT, which DuckDB gives no tree of, every word counts as a name.
    known
        Names of tables and views, in lower case.
    """
    has_no_tree, shows_tables, names = connection.execute(_NAMES, [query]).fetchall()[0]
    if has_no_tree:
        names = re.findall(r"\w+", query)
    lowered = {name.lower() for name in names}
    if shows_tables or (has_no_tree and "show" in lowered) or any(name.startswith(_CATALOG) for name in lowered):
        return frozenset(known)
    return frozenset(lowered.intersection(known))


def source_names(connection: "duckdb.DuckDBPyConnection", query: str) -> tuple[str, ...]:
    """Return the names of the tables and views a query reads, sorted, those of its own CTEs left out."""
    tables, ctes = connection.execute(_SOURCES, [query]).fetchall()[0]
    return tuple(sorted({*tables} - {*ctes}))
