"""The store that a command reads, and what it prints."""

import contextlib
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from ..errors import StoreError, joined, printable
from ..progress import LOGGER
from ..schema.vocabulary import Format

if TYPE_CHECKING:
    from ..queries.database import Database
    from ..queries.result import Result

_DEFAULT = "neuronlake-store"


def chosen_store() -> Path:
    """Return the folder of the store that was chosen, for a command that writes it."""
    first, *others = named_stores()
    if others:
        raise StoreError(f"{joined([first, *others])} are only read as one; 'share merge' makes them one")
    if "://" in first or (first.endswith(".zip") and Path(first).is_file()):
        raise StoreError(f"{first} is {'at a URL' if '://' in first else 'one file'}, where a store is only read")
    return Path(first)


def named_stores(context: click.Context | None = None) -> tuple[str, ...]:
    """Return the folders, files and URLs of the stores that were chosen, for a command that reads them as one."""
    chosen: tuple[str, ...] | None = (context or click.get_current_context()).find_root().obj
    return chosen or (os.environ.get("NEURONLAKE_STORE") or _DEFAULT,)


def open_database() -> "Database":
    """Return the database over the chosen store."""
    from ..queries.database import Database
    from ..schema.stores.union import UnionStore

    database = Database(named_stores())
    if isinstance(database.store, UnionStore):
        for job, home in sorted(database.store.several.items()):
            note(f"{job} stands in several stores with other bytes: that of {home} is read")
    return database


def echo(text: str, *, err: bool = False) -> None:
    """Print lines to standard output, or to standard error; control characters from a store's names are escaped."""
    click.echo(printable(text, keep="\n"), err=err)


def note(text: str) -> None:
    """Print lines beside the result to standard error, unless only errors are to be told."""
    if LOGGER.isEnabledFor(logging.WARNING):
        echo(text, err=True)


def suggest(arguments: str, *stores: str | Path) -> None:
    """Note the command that one would run next, on the chosen store or another."""
    note(f"next: {typed(arguments, stores)}")


def typed(arguments: str, stores: Sequence[str | Path] = ()) -> str:
    """Return a command line as the person must type it: with the program, and the store if it is not the default."""
    # Where the environment is not active, by the path that the program was started with, if it is one.
    program, started = "neuronlake", Path(sys.argv[0])
    if not shutil.which(program):
        program = shlex.quote(os.path.relpath(started)) if started.name == program else "python -m neuronlake"
    chosen = [str(store) for store in stores or click.get_current_context().find_root().obj or ()]
    named = "" if chosen in ([], [_DEFAULT]) else "".join(f" --store {shlex.quote(store)}" for store in chosen)
    return f"{program}{named} {arguments}"


def echo_card(card: str) -> None:
    """Print a card; on a terminal, what stands between « and » is in colour too."""
    styled = re.sub("«[^«»\n]*»", lambda mark: click.style(mark[0], fg="yellow", bold=True), printable(card, keep="\n"))
    click.echo(styled, color=False if os.environ.get("NO_COLOR") else None)


def print_rows(result: "Result", format_: "Format | None", output: Path | None) -> None:
    """Write rows to a file, or to standard output."""
    from ..queries.output import save, write

    if output is None:
        with standard_output() as stream:
            write(result, stream, format=format_ or "table")
    else:
        save(result, output, format=format_, stores=[Path(name) for name in named_stores() if "://" not in name])


@contextlib.contextmanager
def standard_output() -> Iterator[IO[str]]:
    """Yield standard output, to which rows are written; a `StoreError` says where it is closed or full, or cannot."""
    if sys.stdout is None:
        raise StoreError("standard output is closed; -o FILE writes to a file")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except UnicodeEncodeError as error:
        which = error.object[error.start : error.end]
        remedy = "PYTHONIOENCODING=utf-8, or -o FILE"
        raise StoreError(f"standard output is {error.encoding}, which lacks {which!a}: {remedy}") from error
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails once more as it ends
        raise StoreError(f"cannot write to standard output: {error.strerror}") from error
