"""What a table is: a name, a grain, and columns with their meanings; and the columns that many tables begin with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["bool", "int16", "int32", "int64", "float32", "float64", "string", "timestamp"]

# How DuckDB spells a declared type. Arrow types are built where pyarrow is imported: in ``conformance``.
_DUCKDB_TYPES: Mapping[ColumnType, str] = {
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

    @classmethod
    def of(cls, name: str, grain: tuple[str, ...], description: str, *columns: Column) -> "Table":
        """Return the table with these columns."""
        return cls(name, grain, description, columns)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Return the column called `name`, or raise `KeyError` if there is none."""
        return {column.name: column for column in self.columns}[name]


# The keys of a run, repeated in every table of measurements: a constant column costs nothing in Parquet,
# and lets a query filter on a model or a step without a join, skipping whole files.
RUN = (
    Column("run_id", "string", "the measurement: 16 hex digits of the digest of all that defines it"),
    Column("model", "string", "hub id or folder name, as given"),
    Column("revision", "string", "revision, branch or commit as given; main if none; random-<seed> if initialised"),
    Column("step", "int64", "training step of the revision, NULL when unknown", nullable=True),
)
NEURON = (
    Column("stack", "string", "encoder or decoder"),
    Column("layer", "int16", "0 at the embedding side, within its stack"),
    Column("neuron", "int32", "index within the layer"),
)
FUNCTION = (
    Column("family", "string", "function family: semantic, knowledge, task, grammar or the corpus's own"),
    Column("function", "string", "sub-function within the family"),
)


def measured(name: str, type_: ColumnType, description: str) -> Column:
    """Return a nullable column: every measurement of ours fills it, imported results may lack it."""
    return Column(name, type_, f"{description}; NULL if unknown, of imported results", nullable=True)


def clustered(name: str, description: str, type_: ColumnType = "float64") -> tuple[Column, ...]:
    """Return a column for each way in which instances cluster, which takes the place of ``{}``."""
    return tuple(
        Column(name.format(of), type_, f"{description.format(of)}; NULL if none holds two, or unknown", nullable=True)
        for of in ("text", "group", "word")
    )
