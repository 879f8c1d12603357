"""The tables and views that a statement names, from DuckDB's parse tree, before any of them is made."""

import re
from collections.abc import Iterable

import duckdb

from .statements import statement

# How the names of schemas, views and functions begin that list what the database holds.
_CATALOG = ("duckdb_", "information_schema", "pg_", "sqlite_")


def named(connection: duckdb.DuckDBPyConnection, query: str, known: Iterable[str]) -> frozenset[str]:
    """Return which tables and views of `known`, in lower case, a statement names; all of them if it lists the catalog.

    In a PIVOT, of which DuckDB gives no tree, every word counts as a name.
    """
    has_no_tree, shows_tables, names = connection.execute(statement("statement_names"), {"query": query}).fetchall()[0]
    if has_no_tree:
        names = re.findall(r"\w+", query)
    lowered = {name.lower() for name in names}
    if shows_tables or (has_no_tree and "show" in lowered) or any(name.startswith(_CATALOG) for name in lowered):
        return frozenset(known)
    return frozenset(lowered.intersection(known))
