"""Every table of a store, declared once, in SQL: its grain, its columns and their meaning.

Read ``runs``, ``rankings``, ``corpora``, ``partitions``, ``perturbations``, ``checkpoints``, ``contents`` and
``merges``. The store checks what it writes against the declarations, ``neuronlake tables`` prints them, and
docs/tables.md is generated from them. Names are a contract: columns and tables may be added, never renamed.

A file holds ``create table`` statements apart by blank lines. The comment above one says what a row is, the one at the
end of a column's line what the column means; both go on in lines of comment below. Columns without a comment, of which
a line may hold several, mean what the last column of their name above means, in the file or those read before it.

A comment may end in marks. ``[late]``: the column was declared after files of the current schema version had been
written, which lack it. ``[text]``: it holds text of a corpus. ``[measured]``: every measurement of ours fills it,
imported results may lack it, and its meaning ends in these words: NULL if unknown, of imported results.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from ...errors import SchemaError, check_known

SCHEMA_VERSION = 3
_FILES = ("runs", "rankings", "corpora", "partitions", "perturbations", "checkpoints", "contents", "merges")

ColumnType = Literal["bool", "int16", "int32", "int64", "float32", "float64", "string", "timestamp"]

# How DuckDB spells a declared type. Arrow types are built where pyarrow is imported: in ``conformance``.
_DUCKDB_TYPES: dict[ColumnType, str] = {
    "bool": "boolean",
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float32": "float",
    "float64": "double",
    "string": "varchar",
    "timestamp": "timestamp with time zone",
}
_TYPES = {spelled: type_ for type_, spelled in _DUCKDB_TYPES.items()}

_TABLE = re.compile(
    r"(?P<description>(?:-- .+\n)+)create table (?P<name>\w+) \(\n"
    r"(?P<columns>(?: +\S.*\n)+?) +primary key \((?P<grain>[\w,\s]+)\)\n\);"
)
_COLUMN = re.compile(rf"(\w+) ({'|'.join(_TYPES)})( not null)?")
_LINE = re.compile(
    rf" +(?P<columns>{_COLUMN.pattern}(?:, {_COLUMN.pattern})*),"
    r"(?: +-- (?P<meaning>[^][]+)(?P<marks>(?: \[(?:late|text|measured)\])*))?"
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str  # words in snake case, units included
    type: ColumnType  # arrow type name; ``timestamp`` is microseconds in UTC
    description: str  # one line of meaning, without a full stop
    nullable: bool = False  # whether it may hold NULL. No column may hold NaN or infinity.
    # Whether it was declared after files of the current schema version had been written, which lack it
    is_late: bool = False
    # Whether it holds text of a corpus, which a pack may leave out: what a licence may forbid to pass on
    holds_text: bool = False

    @property
    def duckdb_type(self) -> str:
        """The type as DuckDB spells it."""
        return _DUCKDB_TYPES[self.type]


@dataclass(frozen=True, slots=True)
class Table:
    """A declared table."""

    name: str  # table name, plural
    grain: tuple[str, ...]  # the columns that together identify a row
    description: str  # one line: what a row is
    columns: tuple[Column, ...]  # all columns, keys first

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Return the column called `name`, or raise `KeyError` if there is none."""
        return {column.name: column for column in self.columns}[name]


def parse(sql: str) -> Iterator[Table]:
    """Yield the tables that SQL declares; what is not understood is a `SchemaError`."""
    meanings: dict[str, str] = {}  # of the columns above, by name
    for paragraph in sql.strip().split("\n\n"):
        if match := _TABLE.fullmatch(paragraph):
            description = match["description"].removeprefix("-- ").rstrip().replace("\n-- ", " ")
            columns = tuple(_columns(match["name"], match["columns"], meanings))
            yield Table(match["name"], tuple(re.findall(r"\w+", match["grain"])), description, columns)
        elif not all(line.startswith("--") for line in paragraph.splitlines()):
            raise SchemaError(f"no declaration of a table, nor comments alone: {paragraph[:200]!r}")


def _columns(table: str, lines: str, meanings: dict[str, str]) -> Iterator[Column]:
    for line in re.sub(r"\n +--", "", lines).splitlines():
        match = _LINE.fullmatch(line)
        columns = _COLUMN.findall(match["columns"]) if match else []
        if match is None or (match["meaning"] and len(columns) > 1):
            raise SchemaError(f"table {table}: no columns, nor one with its meaning: {line.strip()!r}")
        marks = match["marks"] or ""
        if match["meaning"]:
            of_imports = "; NULL if unknown, of imported results" if "measured" in marks else ""
            meanings[columns[0][0]] = match["meaning"] + of_imports
        for name, type_, not_null in columns:
            if name not in meanings:
                raise SchemaError(f"table {table}, column {name}: no meaning, here or above")
            yield Column(name, _TYPES[type_], meanings[name], not not_null, "late" in marks, "text" in marks)


_SQL = "\n".join((Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8") for name in _FILES)
TABLES: Mapping[str, Table] = MappingProxyType({declared.name: declared for declared in parse(_SQL)})
"""All tables by name, in the order to read them."""


def table(name: str) -> Table:
    """Return the declaration of the table called `name`; raise an `UnknownNameError` if there is none."""
    check_known("table", [name], TABLES)
    return TABLES[name]
