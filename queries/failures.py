"""Errors of DuckDB: what they say in one line, and whether a corrupt file of the store is the cause."""

import errno
import os
import resource
from collections.abc import Iterable
from pathlib import Path

import duckdb

from ..errors import QueryError, StoreError, one_line
from ..schema.commits import CommittedFile
from ..schema.names import file_sha256

ENGINE_ERRORS = (duckdb.Error, UnicodeDecodeError)
"""Errors of a query; a message that quotes bytes of a corrupt file raises the second."""

_NO_EXTENSION = "requires the extension"


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
