"""DuckDB's parse tree of a statement, and the tables and views that it names, before any of them is made."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import duckdb

Tree = dict[str, Any]
"""A node of a parse tree."""

# How the names of schemas, views and functions begin that list what the database holds.
_CATALOG = ("duckdb_", "information_schema", "pg_", "sqlite_")
_NAMES = ("table_name", "schema_name", "function_name")


def parse(connection: duckdb.DuckDBPyConnection, query: str) -> Tree | None:
    """Return the tree of a query; None where DuckDB gives none, as of a PIVOT, or it is deeper than Python reads."""
    ((text,),) = connection.execute("select json_serialize_sql(?)", [query]).fetchall()
    try:
        tree: Tree = json.loads(text)
    except RecursionError:  # an expression of hundreds of terms
        return None
    return None if tree["error"] else tree


def unparse(connection: duckdb.DuckDBPyConnection, tree: Tree) -> str:
    """Return the query of a tree."""
    return str(connection.execute("select json_deserialize_sql(?::json)", [json.dumps(tree)]).fetchall()[0][0])


def nodes(tree: object) -> Iterator[Tree]:
    """Yield all nodes of a tree, each before those within it."""
    left = [tree]
    while left:
        tree = left.pop()
        if isinstance(tree, dict):
            yield tree
        left += reversed(tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ())


def named(tree: Tree | None, query: str, known: Iterable[str]) -> frozenset[str]:
    """Return which tables and views of `known`, in lower case, a statement names; all if it lists the catalog."""
    if tree is None:  # then every word counts as a name
        names = {*re.findall(r"\w+", query.lower())}
        lists_all = "show" in names
    else:
        every = list(nodes(tree))
        given = [node for whole in every if "function" in whole for node in nodes(whole["function"])]
        names = {str(node.get(name)).lower() for node in every for name in _NAMES}
        names |= {str(node.get("text")).lower() for node in given}
        lists_all = any(node.get("show_type") in ("SHOW_SPECIAL", "SHOW_FROM") for node in every)
    if lists_all or any(name.startswith(_CATALOG) for name in names):
        return frozenset(known)
    return frozenset(names.intersection(known))
