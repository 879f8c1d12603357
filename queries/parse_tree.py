"""What a statement names, from DuckDB's own parse tree: to bind it would fail while what it reads is not there yet."""

import re
from collections.abc import Iterable

import duckdb

from .statements import statement

__all__ = ["named"]

# How the names of schemas, views and functions begin that list what the database holds.
_CATALOG = ("duckdb_", "information_schema", "pg_", "sqlite_")


def named(connection: duckdb.DuckDBPyConnection, query: str, known: Iterable[str]) -> frozenset[str]:
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
    has_no_tree, shows_tables, names = connection.execute(statement("statement_names"), {"query": query}).fetchall()[0]
    if has_no_tree:
        names = re.findall(r"\w+", query)
    lowered = {name.lower() for name in names}
    if shows_tables or (has_no_tree and "show" in lowered) or any(name.startswith(_CATALOG) for name in lowered):
        return frozenset(known)
    return frozenset(lowered.intersection(known))
