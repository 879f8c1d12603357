"""What the tables and views are, and the SQL that defines them.

Tables are declared in `schema`; the views are files, ``views/<subject>/*.sql``. A view's file opens with a comment, its
header: the name and the question it answers, maybe a note, then its grain, what it reads and its columns. Columns
without a meaning have that of the first source that has them, else of what the sources read. A line ``-- Intermediate``
marks a view that only other views are meant to read.

A line ``-- By run`` marks a view whose rows of a run come from rows of this run alone: they are kept run by run.

A line ``-- Empty without: <table>`` names a table without which the view has no rows. Where a store holds none of the
table, the view is made without its query, which all that read it would else carry along. Its columns are then of the
types of the first table that has them, or of a line ``-- Type: <column> <type>``.

A line ``-- Ranked`` marks a view that ranks neurons, or reads one that does. Its SQL is the body of a macro of the
parameter ``ranking``, named ``<view>_by``, and reads the macros of ranked views. The view is the macro's rows by lift.
"""

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import QueryError, check_known
from ..schema import tables
from ..schema.tables import Table
from . import quoting

_FOLDER = Path(__file__).parent

TABLES: Mapping[str, Table] = {
    **tables.TABLES,
    "unlisted_scores": replace(tables.TABLES["neuron_functions"], name="unlisted_scores"),
}
"""All tables, and the part of ``neuron_functions`` of runs that lack ``neuron_best`` and ``function_top_neurons``.

A view that reads these two where they are stored, and computes the others, so opens no file it can do without.
"""

_TABLE_COLUMNS: Mapping[str, Mapping[str, str]] = {
    name: {column.name: column.description for column in table.columns} for name, table in TABLES.items()
}

# Files of a job that measures a run, or ranks its scores, end in the run and a number, which splitting finds at a fifth
# of what a regular expression costs: it is asked of every file.
_RUN_OF_FILE = "string_split(parse_filename(filename), '-')[-2]"

_MARKS = ("Intermediate", "Ranked", "By run")
_NEEDS, _TYPE = "Empty without: ", "Type: "

SUBJECTS: Mapping[str, str] = tomllib.loads((_FOLDER / "views" / "subjects.toml").read_text(encoding="utf-8"))
"""The folders of views in reading order, and their titles."""


@dataclass(frozen=True, slots=True)
class View:
    """One view."""

    name: str  # its name, as in SQL
    subject: str  # the folder of its file, of `SUBJECTS`
    answers: str  # one line: the question it answers
    note: str  # one more paragraph, or empty
    is_intermediate: bool  # whether it is a step that other views share, not an answer
    is_by_run: bool  # whether the rows of one run come from rows of this run alone
    needs: str | None  # a table without which it has no rows
    types: Mapping[str, str]  # of such a view, types of columns that are not as in the first table that has them
    is_ranked: bool  # whether its SQL is the body of the macro `macro`, of the parameter ``ranking``
    grain: tuple[str, ...]  # the columns that together identify a row
    source: tuple[str, ...]  # tables and views it reads
    columns: Mapping[str, str]  # its columns in order, and their meanings
    sql: str  # its query, without the header; of a ranked view the body of its macro

    @property
    def macro(self) -> str | None:
        """The name of the macro whose rows by lift it is, ``<view>_by``; None if it ranks nothing."""
        return f"{self.name}_by" if self.is_ranked else None


def parse(text: str, subject: str = "") -> View:
    """Return the view that the text of a file defines; columns that it only names have an empty description."""
    lines = text.splitlines()
    n_header = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    header = [line.removeprefix("--").strip() for line in lines[:n_header]]
    name, _, answers = header[0].partition(": ") if header else ("", "", "")
    marks = {}
    for mark in ("Grain:", "Source:", "Columns:"):
        places = [i for i, line in enumerate(header) if line.startswith(mark)]
        if len(places) != 1:
            raise QueryError(f"view {name!r}: its header needs one line that starts with '-- {mark}'")
        marks[mark] = places[0]
    columns: dict[str, str] = {}
    for line in header[marks["Columns:"] + 1 :]:
        names, _, description = line.partition(": ")
        columns.update(dict.fromkeys(_names(names), description))
    note = header[1 : marks["Grain:"]]
    kept = [line for line in note if line not in _MARKS and not line.startswith((_NEEDS, _TYPE))]
    return View(
        name=name,
        subject=subject,
        answers=answers,
        note=" ".join(" ".join(kept).split()),
        is_intermediate="Intermediate" in note,
        is_by_run="By run" in note,
        needs=next((line.removeprefix(_NEEDS) for line in note if line.startswith(_NEEDS)), None),
        types=dict(line.removeprefix(_TYPE).split(" ", 1) for line in note if line.startswith(_TYPE)),
        is_ranked="Ranked" in note,
        grain=_names(header[marks["Grain:"]].partition(":")[2]),
        source=_names(header[marks["Source:"]].partition(":")[2]),
        columns=columns,
        sql="\n".join(lines[n_header:]).strip(),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


@functools.cache
def views() -> tuple[View, ...]:
    """Return all views: by subject and name, the intermediate ones after all others."""
    files = ((subject, file) for subject in SUBJECTS for file in sorted((_FOLDER / "views" / subject).glob("*.sql")))
    parsed = {file.stem: parse(file.read_text(encoding="utf-8"), subject) for subject, file in files}
    meanings = {**_TABLE_COLUMNS, **{name: view.columns for name, view in parsed.items()}}

    def described(relation: str, column: str) -> str:
        meaning = meanings[relation].get(column, "")
        if meaning or relation in TABLES:
            return meaning
        sources = parsed[relation].source
        holders = [source for source in sources if column in meanings[source]]
        return next(filter(None, (described(source, column) for source in holders or sources)), "")

    of_each = {name: {column: described(name, column) for column in view.columns} for name, view in parsed.items()}
    resolved = (replace(view, columns=of_each[name]) for name, view in parsed.items())
    return tuple(sorted(resolved, key=lambda view: view.is_intermediate))


def view(name: str) -> View:
    """Return the view called `name`; raise an `UnknownNameError` if there is none."""
    by_name = {view.name: view for view in views()}
    check_known("view", [name], by_name)
    return by_name[name]


@functools.cache
def ranked() -> Mapping[str, View]:
    """Return the ranked views by the names of their macros."""
    return {view.macro: view for view in views() if view.macro}


@functools.cache
def reads(name: str) -> tuple[str, ...]:
    """Return all tables, macros and views that one of them reads, in an order to create them, and then itself."""
    return tuple(dict.fromkeys([*(read for source in sources(name) for read in reads(source)), name]))


def sources(name: str) -> list[str]:
    """Return the tables, macros and views that one of them names, sorted: a ranked view its macro alone."""
    if name in TABLES:
        return []
    if name in ranked():
        macros = {view.name: macro for macro, view in ranked().items()}
        return sorted(macros.get(source, source) for source in ranked()[name].source)
    macro = view(name).macro
    return [macro] if macro else sorted(view(name).source)


def query(name: str) -> str:
    """Return the SQL of a view, or the body of a macro."""
    if name in ranked():
        return ranked()[name].sql
    macro = view(name).macro
    return f"from {macro}('lift')" if macro else view(name).sql


@functools.cache
def describe() -> Mapping[str, tuple[str, Mapping[str, str]]]:
    """Return, by table and view, the line that describes it and the meanings of its columns."""
    declared = {name: (table.description, _TABLE_COLUMNS[name]) for name, table in tables.TABLES.items()}
    return {**declared, **{view.name: (view.answers, view.columns) for view in views()}}


@functools.cache
def macros() -> str:
    """Return the SQL that defines the macros."""
    return (_FOLDER / "macros.sql").read_text(encoding="utf-8")


@functools.cache
def macros_by_name() -> dict[str, str]:
    """Return the SQL that defines each macro, in an order to create them."""
    start = "create or replace macro "
    return {text.partition("(")[0]: start + text for text in re.split(f"^{start}", macros(), flags=re.MULTILINE)[1:]}


def macros_in(sql: str) -> list[str]:
    """Return the macros that some SQL names, and those that these read, in an order to create them."""
    found, words = list[str](), {*re.findall(r"\w+", sql.lower())}
    for name, text in reversed(macros_by_name().items()):  # each reads earlier ones alone
        if name in words:
            found.insert(0, name)
            words.update(re.findall(r"\w+", text))
    return found


def definition(name: str, query: str, *, deferred: bool = False) -> str:
    """Return SQL that creates the view of a table, a view, or the macro of a ranked view, of a query.

    A `deferred` view is bound, with all that it reads, when a statement asks it, and not before (DuckDB 2).
    """
    view = f"view {name} with (defer_binding) as" if deferred else f"view {name} as"
    return f"create or replace {f'macro {name}(ranking) as table' if name in ranked() else view}\n{query}"


def table_query(table: Table, files: str, n_rows: int, of_runs: bool) -> str:
    """Return SQL that reads a table's declared columns from `files`, the SQL of a list of Parquet files.

    No file is opened before it is read: columns that it lacks are NULL, and all together have `n_rows`. Files `of_runs`
    have rows of the run of their name alone: DuckDB then concludes from a filter on runs which files to leave out.
    """
    columns = ((quoting.literal(column.name), quoting.literal(column.duckdb_type)) for column in table.columns)
    schema = ", ".join(f"{name}: {{name: {name}, type: {kind}, default_value: null}}" for name, kind in columns)
    return scan(f"{files}, schema = map {{{schema}}}, explicit_cardinality = {n_rows}", of_runs)


def scan(files: str, of_runs: bool) -> str:
    """Return SQL that reads Parquet files, given SQL of their list and options; `of_runs` as in `table_query`."""
    columns, of_file = ("* exclude (filename)", f" where run_id = {_RUN_OF_FILE}") if of_runs else ("*", "")
    return f"select {columns} from read_parquet({files}, hive_partitioning = false, filename = {of_runs}){of_file}"


def is_named_by(path: str, run_id: str) -> bool:
    """Return whether the name of a committed file says that its rows are of a run: what SQL splits off is its id."""
    return "-" not in run_id and path.rpartition("-")[0].endswith((f"/{run_id}", f"-{run_id}"))


def empty_query(columns: Iterable[tuple[str, str]]) -> str:
    """Return SQL of columns, given their names and types, and no row."""
    return f"select {', '.join(f'cast(null as {kind}) as {quoting.name(name)}' for name, kind in columns)} where false"


def columns_of_none(view: View) -> list[tuple[str, str]]:
    """Return the names and types of the columns of a view that has no rows without a table."""
    declared = {column.name: column.duckdb_type for table in reversed([*TABLES.values()]) for column in table.columns}
    return [(name, view.types.get(name) or declared[name]) for name in view.columns]


def comments(name: str) -> str:
    """Return SQL that comments the view of a table, or a view, and its columns."""
    if name in ranked():
        return f"comment on macro table {name} is {quoting.literal(ranked()[name].answers)};"
    if name not in describe():
        return f"comment on view {name} is 'part of neuron_functions';"
    line, columns = describe()[name]
    meanings = {f"column {name}.{quoting.name(column)}": text for column, text in columns.items()}
    said = {f"view {name}": line, **meanings}
    return "\n".join(f"comment on {what} is {quoting.literal(text)};" for what, text in said.items())
