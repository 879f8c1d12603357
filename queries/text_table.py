"""Rows as a table: of plain text, or drawn on a terminal."""

import datetime
import decimal
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from ..errors import printable

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
    return "\n".join(
        "  ".join(align(cell, width) for cell, width, align in zip(line, widths, aligned, strict=True)).rstrip()
        for line in lines
    )


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
