"""Corpora in a JSONL, CSV or Parquet file with one instance a row.

Columns: ``text``; optionally ``id``, ``start`` and ``end`` (character span, half open), ``target``, ``group``
(texts of one group share a half), ``lemma`` and ``stratum`` (`Instance`); and the labels in one of three forms:

- ``labels`` as a list of ``"family/function"`` names: a function that is not listed is negative (`rest`);
- ``labels`` as a mapping ``{"family/function": true}``: a function that is not listed, or null, is not evaluated on
  the row (`explicit`);
- one boolean column a function, named ``family/function``: NULL is not evaluated (`explicit`).

Booleans are true, false, 1 or 0, or such a number or word (also yes, no) as text; NaN is NULL. In a CSV file, cells
are separated by commas, semicolons or tabs, as the header shows; ``labels`` is the list or mapping as JSON, a list as
Python writes it, or names separated by semicolons; an empty cell is NULL, in ``labels`` no label. Other columns are
ignored. Empty or NULL texts and blank lines are excluded and counted.
"""

import csv
import itertools
import os
import re
import reprlib
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ....errors import IngestError, one_line
from ..files import BLANK_LINE, boolean, is_null, json_objects, lines, parse_json, string, whole_number
from ..instance import Instance, Negatives, Reading, Source

_Row = Mapping[str, object]
_Form = Literal["a list in 'labels'", "a mapping in 'labels'", "boolean columns named family/function"]
Parsed = TypeVar("Parsed")
_DELIMITERS = ",;\t"
# Fields of an instance that are names, and the columns that hold them.
_NAMES = {"source_id": "id", "split_group": "group", "lemma": "lemma", "stratum": "stratum"}
_CLASSES = ("label", "class", "category")  # columns of one class a row, which another reader takes


def read_table(path: str | os.PathLike[str], *, encoding: str | None = None) -> Source:
    """Return a source with one instance for each row of a JSONL, CSV or Parquet file.

    This module's docstring lists the columns and the forms of labels.

    Parameters
    ----------
    path
        The file, ``.jsonl``, ``.ndjson``, ``.csv`` (each also with ``.gz``) or ``.parquet``.
    encoding
        Encoding of a JSONL or CSV file; None to detect it (`read_text`).

    Raises
    ------
    IngestError
        Here or while reading, with file and line or row, if the file cannot be read, has no ``text`` or no labels,
        mixes two forms of labels, or holds a value of another type.

    Examples
    --------
    >>> source = neuronlake.read_table("animals.jsonl")
    >>> neuronlake.build_corpus(source, "mine", store="neuronlake-store").n_instances
    80
    """
    path, reading = Path(path), Reading(encoding=encoding)
    if path.is_fifo():
        raise IngestError(f"cannot read {path}: a pipe cannot be read twice; write it to a file")
    form = _find_form(path, Reading(encoding=encoding))
    negatives: Negatives = "rest" if form == "a list in 'labels'" else "explicit"
    description, origin = f"labelled texts of {path.name}", f"table: {path.name}"
    instances = _instances(path, reading, form)
    return Source(instances, description, licence=None, origin=origin, negatives=negatives, reading=reading)


def _find_form(path: Path, reading: Reading) -> _Form:
    """Return the form of the labels in the first row that has labels."""
    columns: dict[str, None] = {}
    with closing(_rows(path, reading)) as rows:
        for row in rows:
            columns |= dict.fromkeys(row)
            with reading.located():
                form, _ = _labels(row)
            if form:
                return form
    if not columns:
        raise IngestError(f"{reading.file}: no rows")
    classes = next((name for name in _CLASSES if name in columns), None)
    problem = "no labels: neither a column 'labels' with values nor a boolean column named family/function"
    remedy = f"classes are read by 'corpus build huggingface FILE --label-column {classes}'; " if classes else ""
    raise IngestError(f"{reading.file}: {problem}; {remedy}columns: {', '.join(columns)}")


def _instances(path: Path, reading: Reading, form: _Form) -> Iterator[Instance]:
    for row in _rows(path, reading):
        with reading.located():
            instance = _instance(row, form)
        yield instance


def _instance(row: _Row, form: _Form) -> Instance:
    if "text" not in row:
        raise IngestError(f"no column 'text'; columns: {', '.join(row)}")
    form_of_row, labels = _labels(row)
    if form_of_row and form_of_row != form:
        raise IngestError(f"labels as {form_of_row}, but as {form} before; keep one form")
    if form == "a list in 'labels'" and is_null(row.get("labels")):
        # Negative for every function, or forgotten? Only the writer knows.
        raise IngestError("column 'labels' is missing or NULL; an instance without labels has an empty list, []")
    return Instance(
        text=_parsed("column", "text", row["text"], string) or "",
        labels=labels,
        start=_parsed("column", "start", row.get("start"), whole_number),
        end=_parsed("column", "end", row.get("end"), whole_number),
        target=_parsed("column", "target", row.get("target"), string),
        **{field: None if is_null(row.get(name)) else str(row[name]) for field, name in _NAMES.items()},
    )


def _labels(row: _Row) -> tuple[_Form | None, dict[str, bool]]:
    """Return the form of a row's labels, None if it has none, and the labels."""
    columns = {name: value for name, value in row.items() if "/" in name}
    labels = _parsed_labels(row.get("labels"))
    if labels is not None and columns:
        raise IngestError(f"labels twice: in column 'labels' and in column {next(iter(columns))!r}; keep one form")
    if labels is None and not columns:
        return None, {}
    if isinstance(labels, list):
        for label in labels:
            if not isinstance(label, str):
                raise IngestError(f"a label in column 'labels' is not a string: {reprlib.repr(label)}")
        return "a list in 'labels'", dict.fromkeys(map(str, labels), True)
    parsed = {name: _parsed("label", name, value, boolean) for name, value in (columns or labels or {}).items()}
    is_positive = {name: value for name, value in parsed.items() if value is not None}
    return "boolean columns named family/function" if columns else "a mapping in 'labels'", is_positive


def _parsed_labels(value: object) -> list[object] | Mapping[str, object] | None:
    """Return the value of column ``labels`` as a list, a mapping or None, read from text where it is text."""
    parsed = value
    if isinstance(value, str) and value.strip().startswith(("[", "{", "(")):
        # Python, and so pandas, writes a list of names in single quotes.
        quoted = value if '"' in value else value.replace("'", '"')
        try:
            parsed = parse_json(quoted.strip())
        except IngestError as error:
            forms = 'a list is ["f/a", "f/b"], a mapping {"f/a": true}'
            raise IngestError(f"column 'labels' is {error}; {forms}") from error
    elif isinstance(value, str):
        parsed = [name.strip() for name in value.split(";") if name.strip()] or None
        if re.search(r"/[^;]*[,|][^;]*/", value):
            raise IngestError(f"column 'labels' holds {reprlib.repr(value)}; separate names by semicolons")
    if is_null(parsed):
        return None
    if isinstance(parsed, list | dict):
        return parsed
    raise IngestError(f"column 'labels' is neither a list nor a mapping: {reprlib.repr(value)}")


def _parsed(what: str, name: str, value: object, parse: Callable[[object], Parsed]) -> Parsed:
    """Return ``parse(value)``; an error names the column or label."""
    try:
        return parse(value)
    except IngestError as error:
        raise IngestError(f"{what} {name!r} is {error}") from error


def _rows(path: Path, reading: Reading) -> Generator[_Row]:
    reading.file, name = str(path), path.name.lower()
    if name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return json_objects(path, reading)
    if name.removesuffix(".gz").endswith(".csv"):
        return _csv_rows(path, reading)
    if name.endswith(".parquet"):
        if reading.encoding:
            raise IngestError(f"{path}: the text of a Parquet file is UTF-8; leave the encoding out")
        return _parquet_rows(path, reading)
    raise IngestError(f"{path}: the suffix tells the format: .jsonl, .ndjson, .csv (each also with .gz) or .parquet")


def _csv_rows(path: Path, reading: Reading) -> Generator[_Row]:
    csv.field_size_limit(sys.maxsize)  # the default limit, 128 KiB a cell, is less than a long document
    remaining = lines(path, reading)
    first = next((line for line in remaining if line.strip()), None)
    if first is None:
        return
    with reading.located():
        delimiter = _delimiter(first)
    # Where a space follows every delimiter of the header, it is no part of the cells.
    is_spaced = all(name.startswith(" ") for name in first.split(delimiter)[1:] if name.strip())
    all_lines = itertools.chain([first], remaining)
    reader = csv.reader(all_lines, strict=True, delimiter=delimiter, skipinitialspace=is_spaced)
    try:
        header = [name.strip() for name in next(reader)]
        while header and not header[-1]:
            header.pop()
        with reading.located():
            _check_names(header)
        for cells in reader:
            if not any(map(str.strip, cells)):
                reading.dropped[BLANK_LINE] += 1
                continue
            # Spreadsheets write empty cells beyond the last column.
            if len(cells) < len(header) or any(map(str.strip, cells[len(header) :])):
                raise reading.error(f"{len(cells)} cells, the header has {len(header)}")
            # An empty cell is NULL, but an empty text or list of labels is one all the same.
            named = {name: cell for name, cell in zip(header, cells, strict=False) if name}
            yield {name: cell if cell or name in ("text", "labels") else None for name, cell in named.items()}
    except csv.Error as error:
        raise reading.error(f"not valid CSV: {one_line(error)}") from error


def _delimiter(header: str) -> str:
    """Return the delimiter of a CSV file: the one that gives its header a column ``text``."""
    readers = {delimiter: csv.reader([header], delimiter=delimiter, skipinitialspace=True) for delimiter in _DELIMITERS}
    names = {delimiter: [name.strip() for name in next(reader)] for delimiter, reader in readers.items()}
    fitting = [delimiter for delimiter in _DELIMITERS if "text" in names[delimiter]]
    if len(fitting) > 1 and len(names[fitting[0]]) > 1:
        raise IngestError(f"the cells are separated by {' or by '.join(map(repr, fitting))}; keep one")
    return fitting[0] if fitting else max(_DELIMITERS, key=lambda delimiter: len(names[delimiter]))


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if name and names.count(name) > 1:
            raise IngestError(f"column {name!r} occurs twice")
    if "text" not in names:
        raise IngestError(f"no column 'text'; columns: {', '.join(names)}")


def _parquet_rows(path: Path, reading: Reading) -> Generator[_Row]:
    reading.unit, reading.index = "row", 0
    known = {"text", "labels", "start", "end", "target", *_NAMES.values(), *_CLASSES}
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            with reading.located():
                _check_names(names)
            batches = file.iter_batches(batch_size=4096, columns=[n for n in names if n in known or "/" in n])
            rows = (row for batch in batches for row in batch.to_pylist(maps_as_pydicts="strict"))
            for reading.index, row in enumerate(rows, start=1):
                yield row
    except IngestError:  # which is a ValueError, too
        raise
    except FileNotFoundError as error:
        raise IngestError(f"cannot read {path}: no such file") from error
    except (pa.ArrowException, OSError, KeyError, ValueError, OverflowError) as error:
        raise IngestError(f"cannot read {path}: not Parquet, or damaged: {one_line(error)}") from error
