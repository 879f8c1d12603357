"""Files and folders as all readers of corpora take them: which files count, how bytes become text and lines."""

import codecs
import gzip
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import BufferedIOBase, IncrementalNewlineDecoder, TextIOWrapper
from pathlib import Path
from typing import TextIO

from ...errors import IngestError, one_line
from .instance import Position

__all__ = ["json_objects", "lines", "parse_json", "read_text", "visible_files"]

HIDDEN = "hidden file, such as .DS_Store"
CP1252 = "file that is not UTF-8, read as cp1252"
BLANK_LINE = "blank line"

# What operating systems leave in folders beside names that begin with a dot; in lower case.
_HIDDEN_NAMES = frozenset(["__macosx", "desktop.ini", "thumbs.db", "@eadir", "$recycle.bin", "lost+found"])
# UTF-32's mark begins as UTF-16's does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK_BYTES = 2**20


def visible_files(folder: Path, pattern: str, dropped: Counter[str]) -> list[Path]:
    """Return the files below a folder that match a pattern, sorted; hidden ones are left out and counted.

    Raises
    ------
    IngestError
        If a folder may not be read, or a link leads nowhere.
    """

    def is_hidden(path: Path) -> bool:
        names = path.relative_to(folder).parts
        return any(name.startswith(".") or name.lower() in _HIDDEN_NAMES for name in names)

    for below in folder.glob("**/"):
        if not is_hidden(below) and not os.access(below, os.R_OK | os.X_OK):
            raise IngestError(f"cannot read {below}: permission denied")
    matching = sorted(path for path in folder.glob(pattern) if not path.is_dir())
    visible = [path for path in matching if not is_hidden(path)]
    for path in visible:
        if not path.is_file():
            raise IngestError(f"cannot read {path}: no file, or a link to none")
    if len(visible) < len(matching):
        dropped[HIDDEN] += len(matching) - len(visible)
    return visible


def read_text(file: Path, dropped: Counter[str], *, encoding: str | None = None) -> str:
    """Return the text of a file, its line ends as they are.

    A byte-order mark tells the encoding; without one it is UTF-8, or cp1252 where the file is not UTF-8, which is
    counted.

    Parameters
    ----------
    file
        The file; decompressed if its name ends in ``.gz``.
    dropped
        Counts files that are read as cp1252.
    encoding
        The encoding, where it is known; then no other is tried.

    Raises
    ------
    IngestError
        If the file cannot be read, with line and byte if that is no text in its encoding.
    """
    with _opened(file, dropped, encoding) as text:
        return text.read()


def lines(file: Path, position: Position, dropped: Counter[str], *, encoding: str | None = None) -> Generator[str]:
    r"""Yield the lines of a file with their ends (``\n``, ``\r\n`` or ``\r``), moving `position` along.

    See `read_text` for encodings, parameters and errors.
    """
    position.file, position.unit, position.index = str(file), "line", 0
    with _opened(file, dropped, encoding) as text:
        for position.index, line in enumerate(text, start=1):
            # Files put together keep the marks they began with.
            yield line.removeprefix("\ufeff")


def json_objects(
    file: Path, position: Position, dropped: Counter[str], *, encoding: str | None = None
) -> Generator[dict[str, object]]:
    """Yield the JSON objects of a file of one a line, moving `position` along; blank lines are counted.

    See `read_text` for encodings, parameters and errors; a line that is no JSON object is an `IngestError` too.
    """
    for line in lines(file, position, dropped, encoding=encoding):
        if not line.strip():
            dropped[BLANK_LINE] += 1
            continue
        try:
            found = parse_json(line)
        except IngestError as error:
            raise IngestError(f"{position}: {error}") from error
        if not isinstance(found, dict):
            raise IngestError(f"{position}: not a JSON object")
        yield found


def parse_json(text: str) -> object:
    """Return what JSON stands for.

    Raises
    ------
    IngestError
        If the text is not JSON, is nested too deeply, or gives one key of an object twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise IngestError("not valid JSON: nested too deeply") from error
    except json.JSONDecodeError as error:
        raise IngestError(f"not valid JSON: {error.msg} at character {error.pos + 1}") from error
    except ValueError as error:
        raise IngestError(f"not valid JSON: {one_line(error)}") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key {name!r} occurs twice")
    return found


@contextmanager
def _opened(path: Path, dropped: Counter[str], encoding: str | None) -> Iterator[TextIO]:
    """Open a file as text in an encoding that fits all of it, line ends as they are."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            found = _encoding(file, path, dropped, encoding)
            file.seek(0)
            with TextIOWrapper(file, found, newline="") as text:
                yield text
    except (OSError, EOFError, zlib.error) as error:
        raise IngestError(f"cannot read {path}: {getattr(error, 'strerror', None) or one_line(error)}") from error


def _encoding(file: BufferedIOBase, path: Path, dropped: Counter[str], chosen: str | None) -> str:
    """Return the encoding of the whole file: one guessed by line would mix two in one text."""
    start = file.read(4)
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    known = marked if chosen is None else _chosen(chosen, marked, path)
    fault = _fault(file, path, known or "utf-8")
    if fault is None:
        return known or "utf-8"
    if known:
        raise IngestError(fault)
    if _is_mostly_utf8(file):
        raise IngestError(f"{fault}; the rest of the file is: mend it, or say another encoding")
    fault = _fault(file, path, "cp1252")
    if fault is not None:
        raise IngestError(f"{fault}; the file is not utf-8 either: say its encoding")
    dropped[CP1252] += 1
    return "cp1252"


def _chosen(encoding: str, marked: str | None, path: Path) -> str:
    """Return the codec of a chosen encoding, that of the file's byte-order mark if they agree."""
    try:
        "".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise IngestError(f"no encoding {encoding!r}; there are utf-8, utf-16, cp1252, latin-1 and others") from error
    if marked and not name.startswith(marked.removesuffix("-sig")):
        raise IngestError(f"{path}: not {encoding}: its byte-order mark says {marked.removesuffix('-sig')}")
    return marked or name


def _fault(file: BufferedIOBase, path: Path, encoding: str) -> str | None:
    """Return where and why the bytes of a file are no text in an encoding, None if they are."""
    decoder = IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line = 1
    file.seek(0)
    while True:
        chunk = file.read(_CHUNK_BYTES)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(encoding, "ignore")
            line += len(re.findall("\r\n|\r|\n", before))
            byte = error.object[error.start]
            return f"{path}, line {line}: byte 0x{byte:02x} is not {encoding.removesuffix('-sig')} ({error.reason})"
        except UnicodeError as error:
            return f"{path}: {one_line(error)}"
        if "\0" in text:
            line += text.partition("\0")[0].count("\n")
            raise IngestError(
                f"{path}, line {line}: a NUL character, as no text has; a file in UTF-16 without a byte-order mark is "
                "read with its encoding said, utf-16-le"
            )
        if not chunk:
            return None
        line += text.count("\n")


def _is_mostly_utf8(file: BufferedIOBase) -> bool:
    """Return whether more characters beyond ASCII are UTF-8 than are not, as in a file of UTF-8 with some damage."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    n_whole = n_broken = 0
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        text = decoder.decode(chunk)
        n_whole += len(re.findall("[^\0-\x7f\udc80-\udcff]", text))
        n_broken += len(re.findall("[\udc80-\udcff]", text))
    return n_whole > n_broken
