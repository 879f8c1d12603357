"""Corpora in a file of one's own: JSONL, CSV or Parquet, one instance a row.

Columns: ``text``; optionally ``id``, ``start`` and ``end`` (character span, half open), ``target``, ``group``
(texts of one group share a half); and the labels in one of three forms:

- ``labels`` as a list of ``"family/function"`` names: what is not listed is negative (`rest`);
- ``labels`` as a mapping ``{"family/function": true}``: what is not listed, or null, is outside that
  function's evaluation (`explicit`);
- one boolean column a function, named ``family/function``: NULL is outside (`explicit`).

In a CSV file, ``labels`` is the list or mapping as JSON, or names separated by semicolons; booleans are
``true``, ``false``, ``1`` or ``0``; an empty cell is NULL, in ``labels`` no label. Other columns are ignored.
"""

import csv
import gzip
import json
import os
import sys
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import IngestError, one_line
from .instance import Instance, Position, Source

__all__ = ["read_table"]

_Row = Mapping[str, object]
_Form = Literal["list", "mapping", "columns"]
_FORMS: Mapping[_Form, str] = {
    "list": "a list in 'labels'",
    "mapping": "a mapping in 'labels'",
    "columns": "boolean columns named family/function",
}
_BATCH_ROWS = 4096


def read_table(path: str | os.PathLike[str], *, description: str | None = None, licence: str | None = None) -> Source:
    """Return the corpus in a JSONL, CSV or Parquet file, about to be read as a stream.

    Parameters
    ----------
    path
        The file; its format follows from the suffix: ``.jsonl``, ``.ndjson``, ``.csv`` (each also with ``.gz``) or
        ``.parquet``.
    description, licence
        What the corpus is, and its licence.

    Raises
    ------
    IngestError
        Here or while reading, with file and line or row, if the file cannot be read, has no ``text`` or no
        labels, mixes two forms of labels, or holds a value of another type.
    """
    path = Path(path)
    position = Position()
    with closing(_rows(path, position)) as rows:
        form = _find_form(rows, position, path)
    position.index = 0
    return Source(
        instances=_instances(path, position, form),
        description=description or f"labelled texts of {path.name}",
        licence=licence,
        origin=f"table: {path.name}",
        negatives="rest" if form == "list" else "explicit",
        position=position,
    )


def _instances(path: Path, position: Position, form: _Form) -> Iterator[Instance]:
    for row in _rows(path, position):
        try:
            instance = _instance(row, form)
        except IngestError as error:
            raise IngestError(f"{position}: {error}") from error
        yield instance


def _find_form(rows: Iterator[_Row], position: Position, path: Path) -> _Form:
    """Return the form of the labels: that of the first row that shows one."""
    columns: dict[str, None] = {}
    for row in rows:
        columns |= dict.fromkeys(row)
        try:
            form = _form(row)
        except IngestError as error:
            raise IngestError(f"{position}: {error}") from error
        if form:
            return form
    if not columns:
        raise IngestError(f"{path}: no rows")
    raise IngestError(
        f"{path}: no labels: neither a column 'labels' with values nor a boolean column named family/function; "
        f"columns: {', '.join(columns)}"
    )


def _form(row: _Row) -> _Form | None:
    """Return the form of a row's labels, None if it has none."""
    columns = [name for name in row if "/" in name]
    labels = _parsed_labels(row.get("labels"))
    if labels is not None and columns:
        raise IngestError(f"labels twice: in column 'labels' and in column {columns[0]!r}; keep one form")
    if columns:
        return "columns"
    if labels is None:
        return None
    return "list" if isinstance(labels, list) else "mapping"


def _parsed_labels(value: object) -> list[object] | Mapping[str, object] | None:
    """Return the value of column ``labels`` as a list, a mapping or None, read from text where it is text."""
    parsed = value
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.startswith(("[", "{")):
            try:
                parsed = json.loads(stripped)
            except ValueError as error:
                raise IngestError(f"column 'labels' is not valid JSON: {one_line(error)}") from error
        else:
            parsed = [name.strip() for name in stripped.split(";") if name.strip()] or None
    if parsed is None or isinstance(parsed, list | dict):
        return parsed
    raise IngestError(f"column 'labels' is neither a list nor a mapping: {value!r}")


def _instance(row: _Row, form: _Form) -> Instance:
    if "text" not in row:
        raise IngestError(f"no column 'text'; columns: {', '.join(row)}")
    text = _string(row, "text")
    if text is None:
        raise IngestError("column 'text' is NULL")
    return Instance(
        text=text,
        labels=_labels(row, form),
        start=_integer(row, "start"),
        end=_integer(row, "end"),
        target=_string(row, "target"),
        source_id=None if row.get("id") is None else str(row["id"]),
        split_group=None if row.get("group") is None else str(row["group"]),
    )


def _labels(row: _Row, form: _Form) -> Mapping[str, bool]:
    found = _form(row)
    if found and found != form:
        raise IngestError(f"labels as {_FORMS[found]}, but as {_FORMS[form]} before; keep one form")
    if form == "columns":
        return _booleans({name: value for name, value in row.items() if "/" in name})
    labels = _parsed_labels(row.get("labels"))
    if isinstance(labels, dict):
        return _booleans(labels)
    if labels is None:
        # Negative for every function, or forgotten? Only the writer knows.
        if form == "list" and row.get("labels") is None:
            raise IngestError("column 'labels' is missing or NULL; an instance without labels has an empty list, []")
        return {}
    for label in labels:
        if not isinstance(label, str):
            raise IngestError(f"a label in column 'labels' is not a string: {label!r}")
    return dict.fromkeys(map(str, labels), True)


def _booleans(values: Mapping[str, object]) -> dict[str, bool]:
    for name, value in values.items():
        if value is not None and not isinstance(value, bool):
            raise IngestError(f"label {name!r} is not boolean: {value!r}")
    return {name: bool(value) for name, value in values.items() if value is not None}


def _string(row: _Row, name: str) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    raise IngestError(f"column {name!r} is not a string: {value!r}")


def _integer(row: _Row, name: str) -> int | None:
    value = row.get(name)
    # pandas writes integers as floats where some are missing.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise IngestError(f"column {name!r} is not a whole number: {value!r}")


def _rows(path: Path, position: Position) -> Generator[_Row]:
    """Return the rows of a file as a stream, moving `position` along."""
    position.file = str(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if compressed else suffixes)[-1:]
    if suffix in ([".jsonl"], [".ndjson"]):
        return _jsonl_rows(path, position, compressed=compressed)
    if suffix == [".csv"]:
        return _csv_rows(path, position, compressed=compressed)
    if suffix == [".parquet"] and not compressed:
        return _parquet_rows(path, position)
    raise IngestError(f"{path}: the suffix tells the format: .jsonl, .ndjson, .csv (each also with .gz) or .parquet")


def _lines(path: Path, position: Position, *, compressed: bool) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file with their ends; a byte-order mark is skipped."""
    position.unit = "line"
    position.index = 0
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            for line in file:
                position.index += 1
                yield line.decode("utf-8-sig" if position.index == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise IngestError(f"{position}: not UTF-8: {one_line(error)}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise IngestError(f"cannot read {path}: {getattr(error, 'strerror', None) or one_line(error)}") from error


def _jsonl_rows(path: Path, position: Position, *, compressed: bool) -> Generator[_Row]:
    for line in _lines(path, position, compressed=compressed):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise IngestError(f"{position}: not valid JSON: {one_line(error)}") from error
        if not isinstance(row, dict):
            raise IngestError(f'{position}: not a JSON object, such as {{"text": "…", "labels": []}}')
        yield row


def _csv_rows(path: Path, position: Position, *, compressed: bool) -> Generator[_Row]:
    # The default limit, 128 KiB a cell, is less than a long document.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(_lines(path, position, compressed=compressed), strict=True)
    try:
        header = next(reader, [])
        for name in header:
            if header.count(name) > 1:
                raise IngestError(f"{position}: column {name!r} occurs twice")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise IngestError(f"{position}: {len(cells)} cells, the header has {len(header)}")
            yield {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise IngestError(f"{position}: not valid CSV: {one_line(error)}") from error


def _cell(name: str, cell: str) -> object:
    """Return what a cell of text stands for; left as it is if it is not of the column's type."""
    if name in ("text", "labels"):
        return cell
    if not cell:
        return None
    if "/" in name:
        return {"true": True, "1": True, "false": False, "0": False}.get(cell.strip().lower(), cell)
    if name in ("start", "end"):
        try:
            return int(cell)
        except ValueError:
            return cell
    return cell


def _parquet_rows(path: Path, position: Position) -> Generator[_Row]:
    position.unit = "row"
    position.index = 0
    with _parquet_errors(path):
        file = pq.ParquetFile(path)
    with file:
        names = list(file.schema_arrow.names)
        known = {"text", "labels", "id", "start", "end", "target", "group"}
        wanted = [name for name in names if name in known or "/" in name]
        if "text" not in names:
            raise IngestError(f"{path}: no column 'text'; columns: {', '.join(names)}")
        batches = file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted)
        while True:
            with _parquet_errors(path):
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist(maps_as_pydicts="strict")
            if batch is None:
                return
            for row in rows:
                position.index += 1
                yield row


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise IngestError(f"cannot read {path}: no such file") from error
    except (pa.ArrowException, OSError, KeyError) as error:
        raise IngestError(f"cannot read {path}: not Parquet, or damaged: {one_line(error)}") from error
