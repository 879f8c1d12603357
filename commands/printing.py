"""The store that a command reads, and what it prints."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from ..errors import StoreError, printable
from ..schema.vocabulary import Format

if TYPE_CHECKING:
    from ..queries.database import Database
    from ..queries.result import Result


def chosen_store() -> Path:
    """Return the folder of the store that was chosen, for a command that writes it."""
    chosen = named_store()
    if isinstance(chosen, str):
        raise StoreError(f"{chosen} is at a URL, where a store is only read")
    return chosen


def named_store() -> Path | str:
    """Return the folder or URL of the store that was chosen, for a command that reads it."""
    chosen: Path | str | None = click.get_current_context().find_root().obj
    if chosen is None:
        named = os.environ.get("NEURONLAKE_STORE") or "neuronlake-store"
        chosen = named if "://" in named else Path(named)
    return chosen


def open_database() -> "Database":
    """Return the database over the chosen store."""
    from ..queries.database import Database

    return Database(named_store())


def echo(text: str, *, err: bool = False) -> None:
    """Print lines to standard output, or to standard error; control characters from a store's names are escaped."""
    click.echo(printable(text, keep="\n"), err=err)


def print_rows(result: "Result", format_: "Format | None", output: Path | None) -> None:
    """Write rows to a file, or to standard output."""
    from ..queries.output import save, write

    if output is None:
        with standard_output() as stream:
            write(result, stream, format=format_ or "table")
    else:
        chosen = named_store()
        save(result, output, format=format_, store=chosen if isinstance(chosen, Path) else None)


@contextlib.contextmanager
def standard_output() -> Iterator[IO[str]]:
    """Yield standard output, to which rows are written; where it is closed or full, a `StoreError` says so."""
    if sys.stdout is None:
        raise StoreError("standard output is closed; -o FILE writes to a file")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails once more as it ends
        raise StoreError(f"cannot write to standard output: {error.strerror}") from error
