"""From the bytes of a file to its text, lines, JSON objects and single values, the same way for all readers."""

import codecs
import gzip
import json
import math
import os
import re
import reprlib
import zlib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedIOBase, IncrementalNewlineDecoder, TextIOWrapper
from pathlib import Path
from typing import TextIO

from ...errors import IngestError, one_line
from .instance import Reading

BLANK_LINE = "blank line"

# What operating systems leave in folders beside names that begin with a dot; in lower case.
_HIDDEN_NAMES = frozenset(["__macosx", "desktop.ini", "thumbs.db", "@eadir", "$recycle.bin", "lost+found"])
# UTF-32's mark begins as UTF-16's does.
_MARKS = {
    "utf-8-sig": (codecs.BOM_UTF8,),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
_CHUNK_BYTES = 2**20
_WORDS = {"true": True, "yes": True, "false": False, "no": False}
_NULLS = frozenset(["", "na", "nan", "none", "null"])


def visible_files(folder: Path, pattern: str, reading: Reading) -> list[Path]:
    """Return the files below a folder that match a pattern, sorted; hidden files are excluded and counted."""

    def is_hidden(path: Path) -> bool:
        return any(name[0] == "." or name.lower() in _HIDDEN_NAMES for name in path.relative_to(folder).parts)

    for below in folder.glob("**/"):
        if not is_hidden(below) and not os.access(below, os.R_OK | os.X_OK):
            raise IngestError(f"cannot read {below}: permission denied")
    matching = sorted(path for path in folder.glob(pattern) if not path.is_dir())
    visible = [path for path in matching if not is_hidden(path)]
    for path in visible:
        if not path.is_file():
            raise IngestError(f"cannot read {path}: no file, or a link to none")
    if len(visible) < len(matching):
        reading.dropped["hidden file, such as .DS_Store"] += len(matching) - len(visible)
    return visible


def read_text(file: Path, reading: Reading) -> str:
    """Return the text of a file, with its line ends unchanged; a ``.gz`` file is decompressed.

    The encoding is the reading's. Where it has none, a byte-order mark decides; without a mark the file is UTF-8, or,
    if it is not valid UTF-8, cp1252, which is counted.
    """
    reading.file = str(file)
    with _opened(file, reading) as text:
        return text.read()


def lines(file: Path, reading: Reading) -> Generator[str]:
    r"""Yield the lines of a file with their ends (``\n``, ``\r\n`` or ``\r``), decoded as by `read_text`."""
    reading.file, reading.unit, reading.index = str(file), "line", 0
    with _opened(file, reading) as text:
        for reading.index, line in enumerate(text, start=1):
            yield line.removeprefix("\ufeff")  # files put together keep the marks they began with


def json_objects(file: Path, reading: Reading) -> Generator[dict[str, object]]:
    """Yield the JSON objects of a file with one object a line, decoded as by `read_text`; blank lines are counted."""
    for line in lines(file, reading):
        if not line.strip():
            reading.dropped[BLANK_LINE] += 1
            continue
        with reading.located():
            parsed = parse_json(line)
        if not isinstance(parsed, dict):
            raise reading.error("not a JSON object")
        yield parsed


def parse_json(text: str) -> object:
    """Return the value of JSON text; invalid JSON, too deep nesting or a repeated key is an `IngestError`."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise IngestError("not valid JSON: nested too deeply") from error
    except json.JSONDecodeError as error:
        raise IngestError(f"not valid JSON: {error.msg} at character {error.pos + 1}") from error
    except ValueError as error:
        raise IngestError(f"not valid JSON: {one_line(error)}") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key {name!r} occurs twice")
    return values


@contextmanager
def _opened(path: Path, reading: Reading) -> Iterator[TextIO]:
    """Open a file as text in an encoding that fits all of it, line ends as they are."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            encoding = _encoding(file, path, reading)
            file.seek(0)
            with TextIOWrapper(file, encoding, newline="") as text:
                yield text
    except (OSError, EOFError, zlib.error) as error:
        raise IngestError(f"cannot read {path}: {getattr(error, 'strerror', None) or one_line(error)}") from error


def _encoding(file: BufferedIOBase, path: Path, reading: Reading) -> str:
    """Return the encoding of the whole file: guessing line by line could mix two in one text."""
    start = file.read(4)
    marked = next((name for name, marks in _MARKS.items() if start.startswith(marks)), None)
    known = marked if reading.encoding is None else _codec(reading.encoding, marked, path)
    fault = _fault(file, path, known or "utf-8")
    if fault is None:
        return known or "utf-8"
    if known:
        raise IngestError(fault)
    if _is_mostly_utf8(file):
        raise IngestError(f"{fault}; the rest of the file is: fix it, or give another `encoding`")
    if fault := _fault(file, path, "cp1252"):
        raise IngestError(f"{fault}; the file is not utf-8 either: give its `encoding`")
    reading.dropped["file that is not UTF-8, read as cp1252"] += 1
    return "cp1252"


def _codec(encoding: str, marked: str | None, path: Path) -> str:
    """Return the codec of a requested encoding; that of the byte-order mark, if there is one and the two agree."""
    try:
        "".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise IngestError(f"no encoding {encoding!r}; there are utf-8, utf-16, cp1252, latin-1 and others") from error
    if marked and not name.startswith(marked.removesuffix("-sig")):
        raise IngestError(f"{path}: not {encoding}: its byte-order mark says {marked.removesuffix('-sig')}")
    return marked or name


def _fault(file: BufferedIOBase, path: Path, encoding: str) -> str | None:
    """Return where and why the bytes of a file are not text in an encoding; None if they are."""
    newlines = IncrementalNewlineDecoder(None, translate=True)
    line = 1
    file.seek(0)
    try:
        for chunk in codecs.iterdecode(iter(lambda: file.read(_CHUNK_BYTES), b""), encoding):
            text = newlines.decode(chunk)
            if "\0" in text:
                line += text.partition("\0")[0].count("\n")
                remedy = "for a file in UTF-16 without a byte-order mark, give the `encoding` utf-16-le"
                raise IngestError(f"{path}, line {line}: a NUL character, which no text has; {remedy}")
            line += text.count("\n")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(encoding, "ignore")
        line += len(re.findall("\r\n|\r|\n", before))
        byte = error.object[error.start]
        return f"{path}, line {line}: byte 0x{byte:02x} is not {encoding.removesuffix('-sig')} ({error.reason})"
    except UnicodeError as error:
        return f"{path}: {one_line(error)}"
    return None


def _is_mostly_utf8(file: BufferedIOBase) -> bool:
    """Return whether most characters beyond ASCII are valid UTF-8, as in a UTF-8 file with a few broken bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    n_valid = n_broken = 0
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        text = decoder.decode(chunk)
        n_valid += len(re.findall("[^\0-\x7f\udc80-\udcff]", text))
        n_broken += len(re.findall("[\udc80-\udcff]", text))
    return n_valid > n_broken


def is_null(value: object) -> bool:
    """Return whether a value is None, or NaN, which pandas writes for None."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def without_gap(value: object) -> object:
    """Undo what pandas does to a column with gaps: NaN becomes None, and 1.0 becomes 1."""
    if is_null(value):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def boolean(value: object) -> bool | None:
    """Return the truth value of a boolean, of 0 or 1, or of such a value, yes or no as text; None for NULL."""
    number = _number(_WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value)
    if number not in (None, 0, 1):
        raise IngestError(f"not boolean: {reprlib.repr(value)}")
    return None if number is None else bool(number)


def whole_number(value: object) -> int | None:
    """Return the whole number that 3, 3.0 or either as text is; None for NULL."""
    number = _number(value)
    if number is None or (isinstance(number, int) and not isinstance(number, bool)):
        return number
    raise IngestError(f"not a whole number: {reprlib.repr(value)}")


def string(value: object) -> str | None:
    """Return a string; None for NULL."""
    if is_null(value):
        return None
    if isinstance(value, str):
        return value
    raise IngestError(f"not a string: {reprlib.repr(value)}")


def texts(row: Mapping[str, object], key: str) -> list[str]:
    """Return what a key holds, a text or a list of texts, without those that are empty or NULL."""
    value = row.get(key)
    values = value if isinstance(value, list) else [value]
    for text in values:
        if not (isinstance(text, str) or is_null(text)):
            raise IngestError(f"{key!r} is neither a text nor a list of texts: {reprlib.repr(value)}")
    return [text.strip() for text in values if isinstance(text, str) and text.strip()]


def _number(value: object) -> object:
    """Return the number that a value or its text is, None for NULL, anything else unchanged."""
    if not isinstance(value, str):
        return without_gap(value)
    if value.strip().lower() in _NULLS:
        return None
    for parse in (int, float):
        with suppress(ValueError):
            return without_gap(parse(value))
    return value
