"""A statement's parse tree: the tables and views that it names, and the runs that its conditions imply.

Files are known by their runs (`catalog.table_query`): a condition on ``run_id`` says which ones to open, and goes
through every view, whereas one on a joined table is met only when all rows are there. So the runs that meet a condition
on the model, revision and step, or on a joined ``runs``, are looked up first, and ``run_id = …``, or in a list, is
added to those of the statement. Where all of a statement is about some runs, files of others are not even listed.
"""

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import duckdb

from ..schema.names import folder_name
from . import catalog, quoting

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


RunsWhere = Callable[[str, Set[str]], Sequence[str]]
"""Returns the ids that a query of ``run_id from runs`` finds, whose files are in some folders, by their names."""

_OF_RUNS = {"run_id", "model", "revision", "step"}
# What a condition may be made of to have one value for a run: no subquery, no parameter, nothing random.
_PLAIN = {None, "COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "OPERATOR", "BETWEEN", "CAST"}


def narrowed(
    connection: duckdb.DuckDBPyConnection, statement: str, tree: Tree, runs_where: RunsWhere
) -> tuple[str, Set[str] | None]:
    """Return a statement, of this tree, with a condition on ``run_id`` where others imply one; mostly as it is.

    And the runs of which alone it reads rows; None where it may read those of any.
    """
    every = list(nodes(tree))
    selects = [node for node in every if node.get("type") == "SELECT_NODE"]
    # A result's column without a name of its own is named by its expression, which so stays as it is.
    unnamed = {
        id(node) for select in selects for item in select["select_list"] if not item["alias"] for node in nodes(item)
    }
    ctes = {entry["key"].lower() for node in every for entry in node.get("cte_map", {}).get("map", ())}
    is_changed, reads = False, None
    for node in selects:
        if node["where_clause"] and id(node) not in unnamed:
            tables, ids = _implied(connection, node, ctes, runs_where)
            for alias in (each for each in ids if tables[each] != "runs" and _is_by_run(tables[each])):
                implied = f"{quoting.name(alias)}.run_id {quoting.among(ids[alias])}"
                both = _select(connection, f"select 1 where true and {implied}")[1]["where_clause"]
                both["children"][0] = node["where_clause"]
                node["where_clause"] = both
                is_changed = True
            if len(selects) == 1 and all(_reads_own_run(name) and alias in ids for alias, name in tables.items()):
                reads = frozenset().union(*ids.values())
    return unparse(connection, tree) if is_changed else statement, reads if is_changed else None


def _implied(
    connection: duckdb.DuckDBPyConnection, select: Tree, ctes: set[str], runs_where: RunsWhere
) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Return the tables of a SELECT by alias, and the runs that its WHERE implies for some of them, by alias."""
    tables: dict[str, str] = {}
    conditions = _conjuncts(select["where_clause"])
    links = _equal(conditions)
    if not _gather(select["from_table"], tables, links) or ctes & {*tables.values()}:
        return tables, {}
    group = {alias: alias for alias in tables}  # tables of one group share their run_id
    for a, b in links:
        if a in group and b in group:
            group = {alias: group[b] if of == group[a] else of for alias, of in group.items()}
    meant = [each for each, name in tables.items() if name != "runs" and _is_by_run(name)]
    told: dict[str, list[Tree]] = defaultdict(list)
    for condition in conditions:
        alias = _table_of(condition, tables)
        if alias and group[alias] in [group[each] for each in meant]:
            told[alias].append(condition)
    found: dict[str, set[str]] = {}
    for alias, of_alias in told.items():
        query, of_runs = _select(connection, f"select run_id from runs as {quoting.name(alias)} where true and true")
        of_runs["where_clause"]["children"][1:] = of_alias
        folders = {
            folder_name(each["right"]["literal"]["text"])
            for each in of_alias
            if each["type"] == "COMPARE_EQUAL" and each["right"].get("literal", {}).get("kind") == "STRING"
            if each["left"].get("column_names", [""])[-1].lower() in ("model", "revision")
        }
        # An error, as of a name that is no number, is the statement's own: its other conditions may leave it out.
        with contextlib.suppress(duckdb.Error):
            ids = {*runs_where(unparse(connection, query), folders)}
            found[group[alias]] = found.get(group[alias], ids) & ids
    return tables, {alias: found[group[alias]] for alias in tables if group[alias] in found}


def _gather(ref: Tree, tables: dict[str, str], links: list[tuple[str, str]]) -> bool:
    """Add the tables of a FROM by alias, and which share a ``run_id``; return whether there are inner joins alone."""
    if ref.get("column_name_alias") or ref.get("sample"):  # which is drawn of all rows, before any condition
        return False
    if ref["type"] == "BASE_TABLE":
        tables[(ref["alias"] or ref["table_name"]).lower()] = ref["table_name"].lower()
    elif ref["type"] == "JOIN" and ref["join_type"] == "INNER" and ref["ref_type"] in ("REGULAR", "CROSS"):
        left: dict[str, str] = {}
        right: dict[str, str] = {}
        is_plain = _gather(ref["left"], left, links) and _gather(ref["right"], right, links)
        tables |= left | right
        if "run_id" in map(str.lower, ref["using_columns"]):
            links += [(a, b) for a in left for b in right]
        links += _equal(_conjuncts(ref["condition"])) if ref["condition"] else []
        return is_plain
    return bool(ref["type"] == "BASE_TABLE")


def _equal(conditions: Sequence[Tree]) -> list[tuple[str, str]]:
    """Return the pairs of aliases whose ``run_id`` conditions say are equal."""
    sides = [(each["left"], each["right"]) for each in conditions if each["type"] == "COMPARE_EQUAL"]
    names = [[[*map(str.lower, side.get("column_names", ()))] for side in both] for both in sides]
    return [(a[0], b[0]) for a, b in names if a[1:] == b[1:] == ["run_id"]]


def _table_of(condition: Tree, tables: Mapping[str, str]) -> str | None:
    """Return the alias of the table whose runs a condition is about, other than by id alone; None if it is not."""
    aliases, columns = set(), set()
    for node in nodes(condition):
        kind = node.get("class")
        if kind not in _PLAIN and not (kind == "FUNCTION" and node["is_operator"]):
            return None
        if kind == "COLUMN_REF":
            *qualifiers, column = map(str.lower, node["column_names"])
            aliases.add(".".join(qualifiers or (tables if len(tables) == 1 else ())))
            columns.add(column)
    alias = aliases.pop() if len(aliases) == 1 else ""
    is_of_runs = tables.get(alias) == "runs" or (_is_by_run(tables.get(alias, "")) and columns <= _OF_RUNS)
    return alias if is_of_runs and columns != {"run_id"} else None


def _is_by_run(name: str) -> bool:
    """Return whether all rows of a table or view with one ``run_id`` have the model, revision and step of this run."""
    if name not in catalog.describe():
        return False
    grain = catalog.TABLES[name].grain if name in catalog.TABLES else catalog.view(name).grain
    return "run_id" in grain and {*catalog.describe()[name][1]} >= _OF_RUNS


def _reads_own_run(name: str) -> bool:
    """Return whether the rows of a table or view with one ``run_id`` come from files of this run alone."""
    if name in catalog.TABLES:
        return catalog.TABLES[name].grain[0] == "run_id"
    return name in catalog.describe() and catalog.view(name).is_by_run


def _conjuncts(condition: Tree) -> list[Tree]:
    children = condition["children"] if condition["type"] == "CONJUNCTION_AND" else ()
    return [each for child in children for each in _conjuncts(child)] if children else [condition]


def _select(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Tree, Tree]:
    """Return the tree of a query of ours, and its SELECT."""
    tree = parse(connection, query) or {}
    return tree, tree["statements"][0]["node"]
