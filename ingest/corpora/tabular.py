"""Corpora in a file of one's own: JSONL, CSV or Parquet, one instance a row.

Columns: ``text``; optionally ``id``, ``start`` and ``end`` (character span, half open), ``target``, ``group``
(texts of one group share a half); and the labels in one of three forms:

- ``labels`` as a list of ``"family/function"`` names: what is not listed is negative (`rest`);
- ``labels`` as a mapping ``{"family/function": true}``: what is not listed, or null, is outside that
  function's evaluation (`explicit`);
- one boolean column a function, named ``family/function``: NULL is outside (`explicit`).

Booleans are true, false, 1 or 0, or such a number or word (also yes, no) as text; NaN is NULL. In a CSV file, cells
are separated by commas, semicolons or tabs, as the header shows; ``labels`` is the list or mapping as JSON, a list as
Python writes it, or names separated by semicolons; an empty cell is NULL, in ``labels`` no label. Other columns are
ignored. An empty or NULL text is left out and counted, and so is a blank line.
"""

import csv
import itertools
import os
import re
import reprlib
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import IngestError, one_line
from .files import BLANK_LINE, json_objects, lines, parse_json
from .instance import Instance, Position, Source
from .values import boolean, is_null, whole_number

__all__ = ["read_table"]

_Row = Mapping[str, object]
_Form = Literal["list", "mapping", "columns"]
_FORMS: Mapping[_Form, str] = {
    "list": "a list in 'labels'",
    "mapping": "a mapping in 'labels'",
    "columns": "boolean columns named family/function",
}
_BATCH_ROWS = 4096
_DELIMITERS = ",;\t"
# Columns of one class a row, which another reader takes.
_CLASSES = ("label", "class", "category")


def read_table(
    path: str | os.PathLike[str],
    *,
    description: str | None = None,
    licence: str | None = None,
    encoding: str | None = None,
) -> Source:
    """Return the corpus in a JSONL, CSV or Parquet file, about to be read as a stream.

    Parameters
    ----------
    path
        The file; its format follows from the suffix: ``.jsonl``, ``.ndjson``, ``.csv`` (each also with ``.gz``) or
        ``.parquet``.
    description, licence
        What the corpus is, and its licence.
    encoding
        Encoding of a JSONL or CSV file; None to find it out (`read_text`).

    Raises
    ------
    IngestError
        Here or while reading, with file and line or row, if the file cannot be read, has no ``text`` or no
        labels, mixes two forms of labels, or holds a value of another type.
    """
    path = Path(path)
    if path.is_fifo():
        raise IngestError(f"cannot read {path}: a pipe cannot be read twice; write it to a file")
    position = Position()
    with closing(_rows(path, position, Counter(), encoding)) as rows:
        form = _find_form(rows, position, path)
    position.index = 0
    dropped: Counter[str] = Counter()
    return Source(
        instances=_instances(_rows(path, position, dropped, encoding), position, form),
        description=description or f"labelled texts of {path.name}",
        licence=licence,
        origin=f"table: {path.name}",
        negatives="rest" if form == "list" else "explicit",
        dropped=dropped,
        position=position,
    )


def _instances(rows: Iterator[_Row], position: Position, form: _Form) -> Iterator[Instance]:
    for row in rows:
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
    classes = next((name for name in _CLASSES if name in columns), None)
    raise IngestError(
        f"{path}: no labels: neither a column 'labels' with values nor a boolean column named family/function; "
        + (f"classes are read by 'corpus build huggingface FILE --label-column {classes}'; " if classes else "")
        + f"columns: {', '.join(columns)}"
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
        if stripped.startswith(("[", "{", "(")):
            # Python, and so pandas, writes a list of names in single quotes.
            quoted = stripped if '"' in stripped else stripped.replace("'", '"')
            try:
                parsed = parse_json(quoted)
            except IngestError as error:
                raise IngestError(
                    f'column \'labels\' is {error}; a list is ["f/a", "f/b"], a mapping {{"f/a": true}}'
                ) from error
        else:
            parsed = [name.strip() for name in stripped.split(";") if name.strip()] or None
            if re.search(r"/[^;]*[,|][^;]*/", stripped):
                raise IngestError(f"column 'labels' holds {reprlib.repr(value)}; separate names by semicolons")
    if is_null(parsed):
        return None
    if isinstance(parsed, list | dict):
        return parsed
    raise IngestError(f"column 'labels' is neither a list nor a mapping: {reprlib.repr(value)}")


def _instance(row: _Row, form: _Form) -> Instance:
    if "text" not in row:
        raise IngestError(f"no column 'text'; columns: {', '.join(row)}")
    return Instance(
        text=_string(row, "text") or "",
        labels=_labels(row, form),
        start=_whole_number(row, "start"),
        end=_whole_number(row, "end"),
        target=_string(row, "target"),
        source_id=None if is_null(row.get("id")) else str(row["id"]),
        split_group=None if is_null(row.get("group")) else str(row["group"]),
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
        if form == "list" and is_null(row.get("labels")):
            raise IngestError("column 'labels' is missing or NULL; an instance without labels has an empty list, []")
        return {}
    for label in labels:
        if not isinstance(label, str):
            raise IngestError(f"a label in column 'labels' is not a string: {reprlib.repr(label)}")
    return dict.fromkeys(map(str, labels), True)


def _booleans(values: Mapping[str, object]) -> dict[str, bool]:
    found = {}
    for name, value in values.items():
        try:
            is_positive = boolean(value)
        except IngestError as error:
            raise IngestError(f"label {name!r} is {error}") from error
        if is_positive is not None:
            found[name] = is_positive
    return found


def _string(row: _Row, name: str) -> str | None:
    value = row.get(name)
    if is_null(value):
        return None
    if isinstance(value, str):
        return value
    raise IngestError(f"column {name!r} is not a string: {reprlib.repr(value)}")


def _whole_number(row: _Row, name: str) -> int | None:
    try:
        return whole_number(row.get(name))
    except IngestError as error:
        raise IngestError(f"column {name!r} is {error}") from error


def _rows(path: Path, position: Position, dropped: Counter[str], encoding: str | None) -> Generator[_Row]:
    """Return the rows of a file as a stream, moving `position` along."""
    position.file = str(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_compressed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if is_compressed else suffixes)[-1:]
    if suffix in ([".jsonl"], [".ndjson"]):
        return json_objects(path, position, dropped, encoding=encoding)
    if suffix == [".csv"]:
        return _csv_rows(path, position, dropped, encoding)
    if suffix == [".parquet"] and not is_compressed:
        if encoding:
            raise IngestError(f"{path}: the text of a Parquet file is UTF-8; leave the encoding out")
        return _parquet_rows(path, position)
    raise IngestError(f"{path}: the suffix tells the format: .jsonl, .ndjson, .csv (each also with .gz) or .parquet")


def _csv_rows(path: Path, position: Position, dropped: Counter[str], encoding: str | None) -> Generator[_Row]:
    # The default limit, 128 KiB a cell, is less than a long document.
    csv.field_size_limit(sys.maxsize)
    remaining = lines(path, position, dropped, encoding=encoding)
    first = next((line for line in remaining if line.strip()), None)
    if first is None:
        return
    delimiter = _delimiter(first, position)
    # Where a space follows every delimiter of the header, it is no part of the cells.
    is_spaced = all(name.startswith(" ") for name in first.split(delimiter)[1:] if name.strip())
    reader = csv.reader(
        itertools.chain([first], remaining), strict=True, delimiter=delimiter, skipinitialspace=is_spaced
    )
    try:
        header = [name.strip() for name in next(reader)]
        while header and not header[-1]:
            header.pop()
        _check_names(header, position)
        for cells in reader:
            if not any(map(str.strip, cells)):
                dropped[BLANK_LINE] += 1
                continue
            # Spreadsheets write empty cells beyond the last column.
            if len(cells) < len(header) or any(map(str.strip, cells[len(header) :])):
                raise IngestError(f"{position}: {len(cells)} cells, the header has {len(header)}")
            yield {name: _cell(name, cell) for name, cell in zip(header, cells, strict=False) if name}
    except csv.Error as error:
        raise IngestError(f"{position}: not valid CSV: {one_line(error)}") from error


def _delimiter(header: str, position: Position) -> str:
    """Return what separates the cells of a CSV file: that by which its header has a column ``text``."""
    names = {
        delimiter: [name.strip() for name in next(csv.reader([header], delimiter=delimiter, skipinitialspace=True))]
        for delimiter in _DELIMITERS
    }
    fitting = [delimiter for delimiter in _DELIMITERS if "text" in names[delimiter]]
    if len(fitting) > 1 and len(names[fitting[0]]) > 1:
        raise IngestError(f"{position}: the cells are separated by {' or by '.join(map(repr, fitting))}; keep one")
    return fitting[0] if fitting else max(_DELIMITERS, key=lambda delimiter: len(names[delimiter]))


def _check_names(names: Sequence[str], place: object) -> None:
    for name in names:
        if name and names.count(name) > 1:
            raise IngestError(f"{place}: column {name!r} occurs twice")
    if "text" not in names:
        raise IngestError(f"{place}: no column 'text'; columns: {', '.join(names)}")


def _cell(name: str, cell: str) -> str | None:
    """Return a cell, None where it is empty; an empty text or list of labels is one all the same."""
    return cell if cell or name in ("text", "labels") else None


def _parquet_rows(path: Path, position: Position) -> Generator[_Row]:
    position.unit = "row"
    position.index = 0
    with _parquet_errors(path):
        file = pq.ParquetFile(path)
    with file:
        names = list(file.schema_arrow.names)
        _check_names(names, path)
        known = {"text", "labels", "id", "start", "end", "target", "group", *_CLASSES}
        wanted = [name for name in names if name in known or "/" in name]
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
    except (pa.ArrowException, OSError, KeyError, ValueError, OverflowError) as error:
        raise IngestError(f"cannot read {path}: not Parquet, or damaged: {one_line(error)}") from error
