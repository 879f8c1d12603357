"""A result as text or a file: what `--format` and `-o FILE` of the command line write; and rows as a table."""

import datetime
import decimal
import html
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

import duckdb

from ..errors import QueryError, plural, printable
from ..schema.disk import store_errors
from ..schema.vocabulary import Format
from . import quoting
from .result import Result

_TERMINAL_ROWS = 100
_SHOWN_ROWS = 20
# What a store writes.
_OWN = {".staging", "README.md", "commits", "data", "derived"}
# What Python spells otherwise, or holds less of; and 0.3, not 0.30000001192092896, which a float32 is as a float64.
_SPELT = {
    **dict.fromkeys(("BLOB", "INTERVAL", "TIMESTAMP_NS", "TIME_NS"), "cast({} as varchar)"),
    "FLOAT": "cast(cast({} as varchar) as double)",
}
_NEEDS_QUOTES = re.compile('[,"\r\n]')


def save(result: Result, path: Path, *, format: Format | None = None, stores: Sequence[Path] = ()) -> None:  # noqa: A002
    """Write a result to a file, which appears complete or not at all; one that exists is replaced and keeps its mode.

    The format is by default that of the suffix. What the `stores` themselves write is refused.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if format is None and suffix not in ("csv", "json", "parquet"):
        raise QueryError(f"cannot tell a format from {path.name!r}; name it .csv, .json or .parquet, or use --format")
    chosen = format or cast("Format", suffix)
    with store_errors(f"cannot write {path}", duckdb.Error):
        target = Path(os.path.realpath(path))
        for store in stores:
            root = Path(os.path.realpath(store))
            if target.is_relative_to(root) and not _OWN.isdisjoint(target.relative_to(root).parts[:1]):
                raise QueryError(f"{path} would be a file of the store {store} itself; name one outside")
        write_whole(path, lambda partial: _write_file(result, partial, chosen))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let a file be written, which then replaces the one at a path, of the same mode, or goes to a pipe or device."""
    target, device = Path(os.path.realpath(path)), _opened(path)
    if device is not None:
        with device, tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "rows")
            with (Path(folder) / "rows").open("rb") as rows:
                shutil.copyfileobj(rows, device)
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        write(partial)
        if target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _opened(path: Path) -> IO[bytes] | None:
    """Open a pipe, a device, or a file that this process has open (/dev/stdout); return None for other paths."""
    for link in (path, path.readlink()) if path.is_symlink() else (path,):
        if link.name.isdigit() and os.path.realpath(link.parent) == f"/proc/{os.getpid()}/fd":
            return os.fdopen(os.dup(int(link.name)), "wb")
    return path.open("wb") if path.exists() and not path.is_file() else None


def _write_file(result: Result, path: Path, format: Format) -> None:  # noqa: A002
    if format == "parquet":
        result.relation.to_parquet(str(path), compression="zstd")
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        write(result, stream, format=format)


def write(result: Result, stream: IO[str], *, format: Format = "table") -> None:  # noqa: A002
    """Write a result as text, NaN and infinity as NULL, control characters escaped; on a terminal a table is cut."""
    if format == "csv":
        for row in [result.columns, *_portable_rows(result)]:
            line = ",".join(map(_csv_field, row))
            stream.write((printable(line) if stream.isatty() else line) + "\n")
    elif format == "json":
        records = (json_text(dict(zip(result.columns, row, strict=True))) for row in _portable_rows(result))
        stream.write("[")
        stream.writelines(f"{',' if i else ''}\n{record}" for i, record in enumerate(records))
        stream.write("\n]\n")
    elif format == "table" and (not stream.isatty() or _is_plan(result)):
        stream.write(_table(result, _portable_rows(result)) + "\n")
    elif format == "table":
        rows = _portable_rows(result)
        shown = rows[:_TERMINAL_ROWS]
        draw_table(result.columns, shown, _numeric(result), stream)
        more = "; -o FILE writes them all" if len(shown) < len(rows) else ""
        stream.write(f"{_count(len(shown), len(rows))}{more}\n")
    else:
        raise QueryError(f"{format} cannot be written as text; use -o FILE.{format}")


def as_text(result: Result) -> str:
    """Return the first rows as a table of plain text, long cells cut, and how many rows there are."""
    rows = _portable_rows(result, _SHOWN_ROWS)
    return f"{_table(result, rows, CELL_WIDTH)}\n{_count(len(rows), len(result))}"


def as_html(result: Result) -> str:
    """Return the first rows as an HTML table, long cells cut, and how many rows there are."""
    rows = _portable_rows(result, _SHOWN_ROWS)
    heads = "".join(f"<th>{html.escape(printable(column))}</th>" for column in result.columns)
    lines = [[f"<td>{html.escape(cell)}</td>" for cell in row] for row in cells(rows, CELL_WIDTH)]
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f"<table><tr>{heads}</tr>{body}</table><p>{_count(len(rows), len(result))}</p>"


def _portable_rows(result: Result, n_rows: int | None = None) -> list[tuple[object, ...]]:
    """Return all rows or the first, single-precision numbers with the fewest digits that are exact."""
    columns = zip(map(quoting.name, result.columns), result.types, strict=True)
    selected = [_SPELT.get(type_name, "{}").format(name) for name, type_name in columns]
    relation = result.relation.project(", ".join(selected))
    return Result(relation if n_rows is None else relation.limit(n_rows)).rows()


def _csv_field(value: object) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    text = plain_text(value)
    return '"' + text.replace('"', '""') + '"' if not text or _NEEDS_QUOTES.search(text) else text


def _table(result: Result, rows: Sequence[Sequence[object]], cut_at: int | None = None) -> str:
    if _is_plan(result):
        return "\n".join(printable(str(row[-1]), keep="\n") for row in rows)
    return text_table(result.columns, rows, _numeric(result), cut_at)


def _is_plan(result: Result) -> bool:
    """Return whether a result is a plan: a drawing of many lines, which a table around it would only break."""
    return "explain_value" in result.columns


def _numeric(result: Result) -> list[bool]:
    return [
        name in {"FLOAT", "DOUBLE"} or "INT" in name.partition("(")[0] or name.startswith("DECIMAL")
        for name in result.types
    ]


def _count(n_shown: int, n_rows: int) -> str:
    return f"{n_shown} of {n_rows:,} rows" if n_shown < n_rows else plural(n_rows, "row")


CELL_WIDTH = 100


def text_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    numeric: Sequence[bool],  # the columns aligned to the right
    cut_at: int | None = None,  # in characters, the length of the longest cell
) -> str:
    """Return rows as a table of plain text: a line of names, then a line a row, without a line break at the end.

    Texts stay, floats have four digits, None is an empty cell.

    >>> print(text_table(["function", "lift"], [["task/sport", 0.5], ["semantic/bank", None]], [False, True]))
    function         lift
    task/sport     0.5000
    semantic/bank
    """
    lines = [list(map(printable, columns)), *cells(rows, cut_at)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [str.rjust if is_number else str.ljust for is_number in numeric]
    padded = ((align(cell, width) for cell, width, align in zip(line, widths, aligned, strict=True)) for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)


def draw_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], numeric: Sequence[bool], stream: IO[str]
) -> None:
    """Draw a table, given as in `text_table`, on a terminal, long cells cut; one column a line where it is too wide."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns, lines = list(map(printable, columns)), cells(rows, CELL_WIDTH)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, is_number in zip(columns, numeric, strict=True):
        table.add_column(Text(column), justify="right" if is_number else "left", no_wrap=True)
    for line in lines:
        table.add_row(*map(Text, line))
    console = Console(file=stream)
    if console.measure(table, options=console.options.update(max_width=100_000)).minimum <= console.width:
        console.print(table)
        return
    # Squeezed columns would hide the keys.
    width = max(map(len, columns))
    for line in lines:
        stream.writelines(f"{column.rjust(width)}  {cell}\n" for column, cell in zip(columns, line, strict=True))
        stream.write("\n")


def cells(rows: Iterable[Sequence[object]], cut_at: int | None = None) -> list[list[str]]:
    """Return values as the texts of their cells, longer ones cut at so many characters."""
    texts = [[_cell(value) for value in row] for row in rows]
    if cut_at is None:
        return texts
    return [[text if len(text) <= cut_at else text[: cut_at - 1] + "…" for text in row] for row in texts]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.4g}"
    return printable(plain_text(value))


def plain_text(value: object) -> str:
    """Return a value as CSV and tables spell it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | dict):
        return json_text(value)
    if isinstance(value, datetime.datetime) and value.tzinfo:
        return str(_json_value(value))
    return str(value)


def json_text(value: object) -> str:
    """Return a value as JSON, control characters escaped."""
    return printable(json.dumps(_json_value(value), ensure_ascii=False))


def _json_value(value: object) -> object:
    """Return the value that JSON has for one of Python: null for NaN and infinity, a text for what is no number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        number = int(value) if value == value.to_integral_value() else float(value)
        return number if decimal.Decimal(repr(number)) == value else str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_json_value(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
