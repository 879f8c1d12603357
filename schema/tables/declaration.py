"""What a table is: a name, a grain, and columns with one line of meaning each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Column", "ColumnType", "Table"]

ColumnType = Literal["bool", "int16", "int32", "int64", "float32", "float64", "string", "timestamp"]

# The one place that says how a declared type is spelled elsewhere. Arrow types are built where pyarrow
# is imported (conformance); DuckDB and the documentation need only the names.
DUCKDB_TYPES: Mapping[ColumnType, str] = {
    "bool": "boolean",
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float32": "float",
    "float64": "double",
    "string": "varchar",
    "timestamp": "timestamp with time zone",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name
        Column name, a whole word or words in snake case, units included.
    type
        Arrow type name; ``timestamp`` is microseconds in UTC.
    description
        One line of meaning, without a full stop.
    nullable
        Whether NULL may stand in it. NaN and infinity never may.
    is_late
        Whether files of the current schema version were written before it was declared, and lack it.
    """

    name: str
    type: ColumnType
    description: str
    nullable: bool = False
    is_late: bool = False

    @property
    def duckdb_type(self) -> str:
        """The type as DuckDB spells it."""
        return DUCKDB_TYPES[self.type]


@dataclass(frozen=True, slots=True)
class Table:
    """A declared table.

    Parameters
    ----------
    name
        Table name, plural.
    grain
        The columns that together identify a row.
    description
        One line: what a row is.
    columns
        All columns, keys first.
    """

    name: str
    grain: tuple[str, ...]
    description: str
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Return the column called `name`.

        Raises
        ------
        KeyError
            If the table has no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)
