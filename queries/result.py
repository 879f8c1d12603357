"""Running a query, and the rows it returned."""

import contextlib
import datetime
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from . import quoting

if TYPE_CHECKING:
    import duckdb
    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl
    import pyarrow as pa

# Sums of integers: what neither Parquet nor data frames hold.
_WIDE_INTEGERS = ("HUGEINT", "UHUGEINT", "BIGNUM")
_WAIT_S = 0.05
_INTERRUPTS = 40
_ZONED = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMP", "TIMESTAMPTZ_NS": "TIMESTAMP_NS"}


class Result:
    """The rows of a query that has run, as tuples, data frames or an Arrow table.

    Iterating gives the rows as dictionaries; printed, or in a notebook, it shows its first rows.
    """

    def __init__(self, relation: "duckdb.DuckDBPyRelation") -> None:
        self.relation = relation  # in memory

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.relation.columns)

    @property
    def types(self) -> tuple[str, ...]:
        """DuckDB types of the columns."""
        return tuple(str(kind) for kind in self.relation.types)

    def rows(self) -> list[tuple[object, ...]]:
        """Return the rows as tuples of Python values; times are in UTC."""
        # DuckDB wants the pytz package for times with a zone, at any depth; without one they are times in UTC.
        plain = [_retyped(type_name, _ZONED) for type_name in self.types]
        selected = [
            f"cast({quoting.name(column)} as {after})" if after != before else quoting.name(column)
            for column, before, after in zip(self.columns, self.types, plain, strict=True)
        ]
        rows = cast("list[tuple[object, ...]]", self.relation.project(", ".join(selected)).fetchall())
        if plain == [*self.types]:
            return rows
        is_zoned = [before != after for before, after in zip(self.types, plain, strict=True)]
        return [
            tuple(_in_utc(value) if zoned else value for value, zoned in zip(row, is_zoned, strict=True))
            for row in rows
        ]

    def pl(self) -> "pl.DataFrame":
        """Return the rows as a polars data frame."""
        return cast("pl.DataFrame", self.relation.pl())

    def df(self) -> "pd.DataFrame":
        """Return the rows as a pandas data frame."""
        is_nested = any(zoned in kind and zoned != kind for kind in self.types for zoned in _ZONED)
        return self.arrow().to_pandas() if is_nested else self.relation.df()  # the latter wants pytz for these

    def arrow(self) -> "pa.Table":
        """Return the rows as an Arrow table."""
        return self.relation.to_arrow_table()

    def __repr__(self) -> str:
        from . import output

        return output.as_text(self)

    def _repr_html_(self) -> str:
        from . import output

        return output.as_html(self)

    def __iter__(self) -> Iterator[dict[str, object]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows())

    def __len__(self) -> int:
        return int(self.relation.shape[0])


def run(
    connection: "duckdb.DuckDBPyConnection",
    query: str,
    parameters: Sequence[object] | Mapping[str, object] | None = None,
) -> Result:
    """Run a query, with parameters as in `Database.sql`, and return its rows; Ctrl-C stops it."""
    # In a thread of its own: inside DuckDB, Python would not notice Ctrl-C until the query ends.
    done = threading.Event()
    answers: list[Result | BaseException] = []

    def collect() -> None:
        try:
            answers.append(_collect(connection.sql(query, params=parameters)))
        except BaseException as error:  # raised again below
            answers.append(error)
        done.set()

    threading.Thread(target=collect, name="neuronlake-query", daemon=True).start()
    try:
        # In short waits: with polars loaded, a signal does not wake the main thread out of a long one.
        while not done.wait(_WAIT_S):
            pass
    except KeyboardInterrupt:
        # DuckDB forgets an interrupt that comes before the query has begun, so ask until it has ended; it does not
        # hear of one while it waits for a file, as for a pipe that nobody writes to.
        for _ in range(_INTERRUPTS):
            if done.wait(_WAIT_S):
                break
            connection.interrupt()
        raise
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]


def _collect(relation: "duckdb.DuckDBPyRelation") -> Result:
    """Return rows, sums of integers as BIGINT where all values fit, else DECIMAL, else text: exact in every format."""
    import duckdb

    rows = relation.materialize()
    for column, type_name in zip(map(quoting.name, rows.columns), map(str, rows.types), strict=True):
        if _retyped(type_name, dict.fromkeys(_WIDE_INTEGERS, "")) != type_name:
            for narrow in ("BIGINT", "DECIMAL(38,0)", "VARCHAR"):
                exact = f"cast({column} as {_retyped(type_name, dict.fromkeys(_WIDE_INTEGERS, narrow))})"
                with contextlib.suppress(duckdb.ConversionException, duckdb.OutOfRangeException):
                    rows = rows.project(f"* replace ({exact} as {column})").materialize()
                    break
    return Result(rows)


def _retyped(type_name: str, types: Mapping[str, str]) -> str:
    """Return the name of a type with some types in it replaced, at any depth; fields and values keep their names."""
    quoted = r""""(?:[^"]|"")*"|'(?:[^']|'')*'"""
    # After the name of a field comes its type.
    return re.sub(rf"{quoted}|\b(?:{'|'.join(types)})\b(?! )", lambda match: types.get(match[0], match[0]), type_name)


def _in_utc(value: object) -> object:
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=datetime.UTC)
    if isinstance(value, dict):
        return {_in_utc(key): _in_utc(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_in_utc, value))
    return value
