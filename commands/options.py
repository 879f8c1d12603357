"""What several commands share: the store, ways to print rows, seeds, and the one place where errors become a line."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from ..errors import NeuronlakeError, QueryError, StoreError, one_line, printable
from .stopping import stopping_in_one_line

if TYPE_CHECKING:
    from ..queries.database import Database
    from ..queries.output import Format
    from ..queries.result import Result

__all__ = [
    "SEED_RANGE",
    "Command",
    "Group",
    "chosen_store",
    "echo",
    "open_database",
    "print_rows",
    "query_text",
    "rows_options",
    "standard_output",
    "store_option",
]

FORMATS = ("table", "csv", "json", "parquet")
SEED_RANGE = click.IntRange(0, 2**63 - 1)
Command = Callable[..., Any]


class Group(click.Group):
    """Turns the package's errors into one line and exit status 1, and what stops a command into one and 130 or 143."""

    is_program = False
    """Whether the process is for a command alone, and ends where that is stopped."""

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run the command."""
        with stopping_in_one_line(ends_process=self.is_program):
            try:
                return super().invoke(context)
            except QueryError as error:  # its names are those of the query
                raise click.ClickException(str(error)) from error
            except NeuronlakeError as error:
                command = self.commands.get(context.invoked_subcommand or "", self)
                raise click.ClickException(_as_options(str(error), command)) from error
            except MemoryError as error:
                raise click.ClickException(f"there is not enough memory: {one_line(error)}") from error


def _as_options(message: str, command: click.Command) -> str:
    """Name parameters as the command line does: ``n_experts``, or a word in backticks, is what --experts sets."""
    every = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    options = {
        parameter.name: max(parameter.opts, key=len)
        for each in every
        for parameter in each.params
        if isinstance(parameter, click.Option)
    }

    def option(match: re.Match[str]) -> str:
        return options.get(match["quoted"] or match["plain"], match["quoted"] or match["plain"])

    # Within quotes or a path it is a name of the person's own.
    return re.sub(r"`(?P<quoted>\w+)`|(?<![\w'\"/.-])(?P<plain>[a-z]+(_[a-z]+)+)(?![\w'\"/.-]\S)", option, message)


def store_option(command: Command) -> Command:
    """Take ``--store`` before or after the command's name."""

    def remember(context: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            if not value:
                raise click.BadParameter("the name of a folder is empty")
            context.find_root().obj = Path(value)

    return click.option(
        "--store",
        metavar="DIR",
        callback=remember,
        expose_value=False,
        help="The store's folder.  [env: NEURONLAKE_STORE; default: ./neuronlake-store]",
    )(command)


def chosen_store() -> Path:
    """Return the folder of the store that was chosen."""
    chosen = click.get_current_context().find_root().obj
    return chosen if chosen is not None else Path(os.environ.get("NEURONLAKE_STORE") or "neuronlake-store")


def rows_options(command: Command) -> Command:
    """Add the options of a command that prints rows."""
    for option in (
        click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to FILE instead."),
        click.option(
            "--format",
            "format_",
            type=click.Choice(FORMATS),
            help="How to write rows.  [default: table; with -o, the file's suffix]",
        ),
    ):
        command = option(command)
    return command


def echo(text: str, *, err: bool = False) -> None:
    """Print lines of ours to standard output, or to standard error; what of a store is in them, escaped."""
    click.echo(printable(text, keep="\n"), err=err)


def query_text(query: str) -> str:
    """Return a query, which ``-`` reads from standard input; what is not UTF-8 in it is refused as SQL."""
    return sys.stdin.buffer.read().decode(errors="surrogateescape") if query == "-" else query


def open_database() -> "Database":
    """Return the database over the chosen store."""
    from ..queries.database import Database

    return Database(chosen_store())


def print_rows(result: "Result", format_: "Format | None", output: Path | None) -> None:
    """Write rows to a file, or to standard output."""
    from ..queries.output import save, write

    if output is None:
        with standard_output() as stream:
            write(result, stream, format=format_ or "table")
    else:
        save(result, output, format=format_, store=chosen_store())


@contextlib.contextmanager
def standard_output() -> Iterator[IO[str]]:
    """Yield standard output, to which rows are written; that it is closed or full becomes one line.

    Raises
    ------
    StoreError
        If it cannot be written to.
    """
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
