"""What the options of several commands share: their types, and settings made of them."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from ..engines.engine import Engine, EngineName, engine_called
from ..schema.vocabulary import Format

Command = Callable[..., Any]
_Settings = TypeVar("_Settings")
SEED_RANGE = click.IntRange(0, 2**63 - 1)
POSITIVE = click.IntRange(min=1)
FILE = click.Path(dir_okay=False, path_type=Path)


def choice_of(literal: object) -> click.Choice[str]:
    """Return the type of an option that takes one of the strings of a `Literal`."""
    return click.Choice(get_args(literal))


def parse_layers(text: str) -> tuple[int, ...]:
    """Parse a list of layers such as 0,3-5."""
    layers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            span = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            span = range(0)
        if not 0 < len(span) <= 10_000:
            raise click.BadParameter(f"{text!r} is not a list of layers such as 0,3-5")
        layers.extend(span)
    return tuple(layers)


def query_text(query: str) -> str:
    """Return a query, or for ``-`` what standard input holds; bytes that are not UTF-8 are refused as SQL later."""
    if query != "-" or click.get_current_context().resilient_parsing:  # a shell that completes types nothing in
        return query
    return sys.stdin.buffer.read().decode(errors="surrogateescape")


def rows_options(command: Command) -> Command:
    """Add the options of a command that prints rows."""
    how = "How to write rows.  [default: table; with -o, the file's suffix]"
    output = click.option("-o", "--output", type=FILE, help="Write to FILE instead.")
    return click.option("--format", "format_", type=choice_of(Format), help=how)(output(command))


def engine_options(command: Command) -> Command:
    """Add the options that say where tasks run; `taken_engine` takes them."""
    kind, how = choice_of(EngineName), "One task after the other, or in workers of Ray."
    engine = click.option("--engine", type=kind, default="serial", help=how)
    workers = click.option("--workers", type=POSITIVE, help="Tasks at a time.  [default: one a GPU, or 4 processors]")
    address = click.option("--address", help="A running Ray, such as HOST:6379.  [default: one is started here]")
    return engine(workers(address(command)))


def taken_engine(options: dict[str, Any]) -> Engine:
    """Take the options of `engine_options` out of `options`, and return the engine that they choose."""
    return engine_called(options.pop("engine"), workers=options.pop("workers"), address=options.pop("address"))


def taken(settings: type[_Settings], options: dict[str, Any]) -> _Settings:
    """Take what was given of a dataclass's fields out of `options`, and return it as the dataclass."""
    values = {field.name: options.pop(field.name, None) for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    return settings(**{name: value for name, value in values.items() if value not in (None, ())})
