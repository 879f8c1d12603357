"""Running a query: the rows it returned, or why DuckDB failed, in one line or as a corrupt file of the store."""

import contextlib
import errno
import os
import re
import resource
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import duckdb

from ..errors import QueryError, StoreError, one_line
from ..schema.commits import CommittedFile
from ..schema.names import file_sha256
from . import quoting

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl
    import pyarrow as pa

# Sums of integers: what neither Parquet nor data frames hold.
_WIDE_INTEGERS = ("HUGEINT", "UHUGEINT", "BIGNUM")
_WAIT_S = 0.05
_INTERRUPTS = 40

ENGINE_ERRORS = (duckdb.Error, UnicodeDecodeError)
"""Errors of a query; a message that quotes bytes of a corrupt file raises the second."""

_NO_EXTENSION = "requires the extension"


class Result:
    """The rows of a query that has run, as tuples, data frames or an Arrow table.

    Iterating gives the rows as dictionaries; printed, or in a notebook, it shows its first rows.
    """

    def __init__(self, relation: duckdb.DuckDBPyRelation) -> None:
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
        return self.relation.fetchall()

    def pl(self) -> "pl.DataFrame":
        """Return the rows as a polars data frame."""
        return cast("pl.DataFrame", self.relation.pl())

    def df(self) -> "pd.DataFrame":
        """Return the rows as a pandas data frame."""
        return self.relation.df()

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
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[object] | Mapping[str, object] | None = None
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


def _collect(relation: duckdb.DuckDBPyRelation) -> Result:
    """Return rows, sums of integers as BIGINT where all values fit, else DECIMAL, else text: exact in every format."""
    rows = relation.materialize()
    for column, type_name in zip(map(quoting.name, rows.columns), map(str, rows.types), strict=True):
        if _narrowed(type_name, "") != type_name:
            for narrow in ("BIGINT", "DECIMAL(38,0)", "VARCHAR"):
                exact = f"cast({column} as {_narrowed(type_name, narrow)})"
                with contextlib.suppress(duckdb.ConversionException, duckdb.OutOfRangeException):
                    rows = rows.project(f"* replace ({exact} as {column})").materialize()
                    break
    return Result(rows)


def _narrowed(type_name: str, narrow: str) -> str:
    """Return the name of a type with its wide integers, at any depth, replaced; fields and values keep their names."""
    quoted = r""""(?:[^"]|"")*"|'(?:[^']|'')*'"""
    # After the name of a field comes its type.
    wide = rf"{quoted}|\b(?:{'|'.join(_WIDE_INTEGERS)})\b(?! )"
    return re.sub(wide, lambda match: narrow if match[0] in _WIDE_INTEGERS else match[0], type_name)


def explain(error: BaseException) -> str:
    """Return DuckDB's message and suggestions in one line, without its picture of the query."""
    message = str(error).partition("\nLINE ")[0]
    # What a file system of ours raised comes with its traceback.
    message = message.rpartition(f"{StoreError.__module__}.{StoreError.__name__}: ")[2]
    if _NO_EXTENSION in message:
        return f"{one_line(error)}: only local files can be read"
    return one_line(QueryError(" ".join(message.split())))


def check_files(error: BaseException, files: Iterable[tuple[Path, CommittedFile]]) -> None:
    """Raise a `StoreError` if one of the files that a query read is missing, unreadable or corrupt and so its error."""
    message = str(error)
    # DuckDB has no class of its own for broken Parquet structures: they come as the base class.
    is_structure = type(error) in ENGINE_ERRORS and _NO_EXTENSION not in message
    if not (is_structure or isinstance(error, duckdb.IOException | duckdb.InvalidInputException)):
        return
    if os.strerror(errno.EMFILE) in message:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise StoreError(f"too many open files: this process may open {limit} at once (ulimit -n)") from error
    for path, file in files:
        try:
            is_altered = path.stat().st_size != file.size_bytes
        except FileNotFoundError:
            raise StoreError(f"{path} is committed but missing") from error
        except OSError as reason:
            raise StoreError(f"cannot read {path}: {reason.strerror}") from error
        if not is_altered and (is_structure or str(path) in message):
            is_altered = file_sha256(path) != file.sha256
        if is_altered:
            raise StoreError(f"{path} is corrupt: it differs from what was committed") from error
