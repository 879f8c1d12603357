"""A result as text or a file: what `--format` and `-o FILE` of the command line write."""

import contextlib
import csv
import datetime
import decimal
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, cast, get_args

from ..errors import QueryError, StoreError, one_line
from . import quoting
from .result import Result

__all__ = ["Format", "format_of", "save", "write"]

Format = Literal["table", "csv", "json", "parquet"]

_CELL_WIDTH = 100
_TERMINAL_ROWS = 100


def format_of(path: Path) -> Format:
    """Return the format that the suffix of a file names.

    Raises
    ------
    QueryError
        If it names none.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in ("csv", "json", "parquet"):
        raise QueryError(f"cannot tell a format from {path.name!r}; name it .csv, .json or .parquet, or use --format")
    return cast("Format", suffix)


def save(result: Result, path: Path, *, format: Format | None = None) -> None:  # noqa: A002
    """Write a result to a file, which appears complete or not at all.

    Parameters
    ----------
    result
        The rows.
    path
        The file; one that is there is replaced.
    format
        By default what the suffix says.

    Raises
    ------
    QueryError
        If the suffix names no format.
    StoreError
        If the file cannot be written.
    """
    import duckdb

    chosen = format or format_of(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if chosen == "parquet":
            result.relation.to_parquet(str(partial), compression="zstd")
        else:
            with partial.open("w", encoding="utf-8", newline="") as stream:
                write(result, stream, format=chosen)
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    except duckdb.Error as error:
        raise StoreError(f"cannot write {path}: {one_line(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write(result: Result, stream: IO[str], *, format: Format = "table") -> None:  # noqa: A002
    """Write a result as text.

    CSV has NULL as an empty field; JSON is a list of records with null. Neither ever has NaN or infinity, which
    SQL can compute though no store holds them: they are written as NULL.

    Parameters
    ----------
    result
        The rows.
    stream
        Where to. A table is drawn, and cut after 100 rows, on a terminal; elsewhere it is plain text in full.
    format
        The format.

    Raises
    ------
    QueryError
        If the format is not text.
    """
    if format == "csv":
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(result.columns)
        writer.writerows([_csv_field(value) for value in row] for row in _portable_rows(result))
    elif format == "json":
        lines = (
            json.dumps(dict(zip(result.columns, map(_json_value, row), strict=True)), ensure_ascii=False)
            for row in _portable_rows(result)
        )
        stream.write("[")
        separator = "\n"
        for line in lines:
            stream.write(separator + line)
            separator = ",\n"
        stream.write("\n]\n")
    elif format == "table":
        _write_table(result, stream)
    elif format in get_args(Format):
        raise QueryError(f"{format} cannot be written as text; use -o FILE.{format}")
    else:
        raise QueryError(f"no format {format!r}; available: {', '.join(get_args(Format))}")


def _portable_rows(result: Result) -> list[tuple[object, ...]]:
    """Return the rows with single-precision numbers as short as they are exact, and times as ISO 8601."""
    selected = []
    for column, type_name in zip(result.columns, result.types, strict=True):
        name = quoting.name(column)
        if type_name == "FLOAT":
            # 0.3, not 0.30000001192092896, which is what a float32 is as a float64.
            name = f"cast(cast({name} as varchar) as double)"
        elif type_name == "TIMESTAMP WITH TIME ZONE":
            name = f"strftime({name}, '%Y-%m-%dT%H:%M:%SZ')"
        selected.append(name)
    return cast("list[tuple[object, ...]]", result.relation.project(", ".join(selected)).fetchall())


def _csv_field(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple | dict):
        return json.dumps(_json_value(value), ensure_ascii=False)
    return value


def _json_value(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _json_value(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_json_value(each) for each in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _write_table(result: Result, stream: IO[str]) -> None:
    rows = _portable_rows(result)
    if "explain_value" in result.columns:
        # A plan is a drawing of many lines: a table around it would only break it.
        stream.writelines(f"{row[-1]}\n" for row in rows)
        return
    is_terminal = stream.isatty()
    shown = rows[:_TERMINAL_ROWS] if is_terminal else rows
    cells = [[_cell(value) for value in row] for row in shown]
    is_number = [_is_number(type_name) for type_name in result.types]
    if is_terminal:
        _draw(result.columns, cells, is_number, stream)
    else:
        _align(result.columns, cells, is_number, stream)
    if len(shown) < len(rows):
        stream.write(f"{len(shown)} of {len(rows):,} rows; -o FILE writes them all\n")
    elif is_terminal:
        stream.write(f"{len(rows):,} row{'' if len(rows) == 1 else 's'}\n")


def _draw(columns: Sequence[str], cells: list[list[str]], is_number: list[bool], stream: IO[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, right in zip(columns, is_number, strict=True):
        table.add_column(Text(column), justify="right" if right else "left", no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))
    console = Console(file=stream)
    if console.measure(table, options=console.options.update(max_width=100_000)).minimum <= console.width:
        console.print(table)
        return
    # Too wide for the terminal: one column a line, as squeezed columns would hide the keys.
    width = max(map(len, columns))
    for row in cells:
        stream.writelines(f"{column.rjust(width)}  {cell}\n" for column, cell in zip(columns, row, strict=True))
        stream.write("\n")


def _align(columns: Sequence[str], cells: list[list[str]], is_number: list[bool], stream: IO[str]) -> None:
    lines = [list(columns), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ]
        stream.write("  ".join(padded).rstrip() + "\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"
    text = " ".join(str(_csv_field(value)).split())
    return text if len(text) <= _CELL_WIDTH else text[: _CELL_WIDTH - 1] + "…"


def _is_number(type_name: str) -> bool:
    return type_name in {"FLOAT", "DOUBLE"} or "INT" in type_name.partition("(")[0] or type_name.startswith("DECIMAL")
