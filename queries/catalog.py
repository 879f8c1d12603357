"""The views: SQL files beside this module, each described by the comment it opens with.

A header names the view, says in one line what it answers, may say more, and then gives its grain, what it
reads, and one line a column. A test holds it against the query itself.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

from ..errors import QueryError, UnknownNameError

__all__ = ["View", "ViewColumn", "macros", "parse", "view", "views"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One column of a view and its line of meaning."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class View:
    """One view.

    Parameters
    ----------
    name
        Its name, as in SQL.
    answers
        One line: the question it answers.
    note
        What else there is to know, as one paragraph; may be empty.
    grain
        The columns that together identify a row.
    source
        Tables and views it reads.
    columns
        Its columns, in order.
    sql
        Its query, without the header.
    """

    name: str
    answers: str
    note: str
    grain: tuple[str, ...]
    source: tuple[str, ...]
    columns: tuple[ViewColumn, ...]
    sql: str


def parse(text: str) -> View:
    """Read a view from the text of its file.

    Raises
    ------
    QueryError
        If the header is not as described above.
    """
    lines = text.splitlines()
    n_header = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    header = [line.removeprefix("--").strip() for line in lines[:n_header]]
    name, _, answers = header[0].partition(": ") if header else ("", "", "")
    marks = {}
    for mark in ("Grain:", "Source:", "Columns:"):
        found = [i for i, line in enumerate(header) if line.startswith(mark)]
        if len(found) != 1:
            raise QueryError(f"view {name!r}: its header needs one line that starts with '-- {mark}'")
        marks[mark] = found[0]
    columns = []
    for line in header[marks["Columns:"] + 1 :]:
        column, _, description = line.partition(": ")
        columns.append(ViewColumn(column, description))
    return View(
        name=name,
        answers=answers,
        note=" ".join(" ".join(header[1 : marks["Grain:"]]).split()),
        grain=_names(header[marks["Grain:"]]),
        source=_names(header[marks["Source:"]]),
        columns=tuple(columns),
        sql="\n".join(lines[n_header:]).strip(),
    )


def _names(line: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in line.partition(":")[2].split(","))


@functools.cache
def views() -> tuple[View, ...]:
    """Return all views, by name."""
    return tuple(parse(file.read_text(encoding="utf-8")) for file in sorted((_FOLDER / "views").glob("*.sql")))


def view(name: str) -> View:
    """Return the view called `name`.

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    found = {each.name: each for each in views()}
    if name not in found:
        raise UnknownNameError("view", name, found)
    return found[name]


@functools.cache
def macros() -> str:
    """Return the SQL that defines the macros."""
    return (_FOLDER / "macros.sql").read_text(encoding="utf-8")
