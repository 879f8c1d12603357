"""What the tables and views are: the declared tables, and the views of ``views/<subject>/*.sql``.

A view's file opens with a comment, its header: the name and the question it answers, maybe a note, then its grain, what
it reads and its columns. A line of column names without a description takes the description of the first source
that has the column. A line ``-- Intermediate`` marks a view that only other views are meant to read.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import QueryError, UnknownNameError
from ..schema.table import Column
from ..schema.tables import TABLES

__all__ = ["SUBJECTS", "View", "ViewColumn", "describe", "macros", "parse", "view", "views"]

_FOLDER = Path(__file__).parent

SUBJECTS: Mapping[str, str] = {
    "checkpoints": "Checkpoints",
    "scores": "Scores of neurons",
    "partitions": "Partitions into experts",
    "alignment": "Experts and functions",
    "perturbation": "Perturbation",
    "emergence": "Emergence in training",
}
"""The folders of views in reading order, and what each is about."""


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
    subject
        The folder of its file, of `SUBJECTS`.
    answers
        One line: the question it answers.
    note
        What else there is to know, as one paragraph; may be empty.
    is_intermediate
        Whether it holds a step that other views share, rather than an answer.
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
    subject: str
    answers: str
    note: str
    is_intermediate: bool
    grain: tuple[str, ...]
    source: tuple[str, ...]
    columns: tuple[ViewColumn, ...]
    sql: str


def parse(text: str, subject: str = "") -> View:
    """Read a view from the text of its file; columns that the header only names have an empty description.

    Raises
    ------
    QueryError
        If the header lacks its grain, source or columns.
    """
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
    columns: list[ViewColumn] = []
    for line in header[marks["Columns:"] + 1 :]:
        column, colon, description = line.partition(": ")
        columns += [ViewColumn(column, description)] if colon else [ViewColumn(key, "") for key in _names(line)]
    note = header[1 : marks["Grain:"]]
    return View(
        name=name,
        subject=subject,
        answers=answers,
        note=" ".join(" ".join(line for line in note if line != "Intermediate").split()),
        is_intermediate="Intermediate" in note,
        grain=_names(header[marks["Grain:"]].partition(":")[2]),
        source=_names(header[marks["Source:"]].partition(":")[2]),
        columns=tuple(columns),
        sql="\n".join(lines[n_header:]).strip(),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


@functools.cache
def views() -> tuple[View, ...]:
    """Return all views: by subject and name, the intermediate ones after all others."""
    parsed = {
        view.name: view
        for subject in SUBJECTS
        for file in sorted((_FOLDER / "views" / subject).glob("*.sql"))
        for view in [parse(file.read_text(encoding="utf-8"), subject)]
    }

    def description(relation: str, column: str) -> str:
        known: Sequence[Column | ViewColumn]
        known = parsed[relation].columns if relation in parsed else TABLES[relation].columns
        own = [each.description for each in known if each.name == column]
        if own != [""]:
            return own[0] if own else ""
        return next(filter(None, (description(source, column) for source in parsed[relation].source)), "")

    described = [
        replace(view, columns=tuple(ViewColumn(key.name, description(view.name, key.name)) for key in view.columns))
        for view in parsed.values()
    ]
    return tuple(sorted(described, key=lambda view: view.is_intermediate))


def view(name: str) -> View:
    """Return the view called `name`.

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    by_name = {view.name: view for view in views()}
    if name not in by_name:
        raise UnknownNameError("view", name, by_name)
    return by_name[name]


@functools.cache
def describe() -> Mapping[str, tuple[str, Mapping[str, str]]]:
    """Return, by name, what each table and view holds, in one line, and what each of its columns means."""
    lines = {table.name: table.description for table in TABLES.values()} | {view.name: view.answers for view in views()}
    return {
        each.name: (lines[each.name], {column.name: column.description for column in each.columns})
        for each in (*TABLES.values(), *views())
    }


@functools.cache
def macros() -> str:
    """Return the SQL that defines the macros."""
    return (_FOLDER / "macros.sql").read_text(encoding="utf-8")
