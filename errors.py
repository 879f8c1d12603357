"""The exceptions neuronlake raises on purpose.

::

    Exception
      NeuronlakeError          anything below: one clear line for the person at the keyboard
        SchemaError            (ValueError)   data that does not conform to a declared table
        StoreError                            the folder on disk: unreadable, unwritable, corrupt, locked
          AlreadyCommittedError               a job that another process has committed meanwhile
          BeingWrittenError                   a job that another process is doing
        IngestError            (ValueError)   a corpus or a model that cannot be measured
        AnalysisError          (ValueError)   neurons that cannot be grouped or tested as asked
        UnknownNameError       (LookupError)  a name that is not there, with the names that are
        QueryError             (ValueError)   SQL that is wrong, or that would change something
        EngineError                           workers that are not there, or died

Every message says what, where, and what is available. Third-party exceptions are wrapped once, where they enter, and
chained (``raise ... from error``), so that a traceback keeps the cause. Texts may come from a store that somebody else
made: all pass `printable` on their way to a terminal.
"""

import difflib
import functools
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, get_args, get_origin, get_type_hints


class NeuronlakeError(Exception):
    """Base of every error neuronlake raises on purpose; its message is one line, and safe to print."""

    def __str__(self) -> str:
        return printable(super().__str__())


class SchemaError(NeuronlakeError, ValueError):
    """Data that does not conform to the table it was written for."""


class StoreError(NeuronlakeError):
    """A store folder that cannot be read, written or trusted."""


class AlreadyCommittedError(StoreError):
    """A job that is to be done and has been: another process was faster."""


class BeingWrittenError(StoreError):
    """A job that another process is doing."""


class IngestError(NeuronlakeError, ValueError):
    """A corpus or model that cannot be measured as asked."""


class QueryError(NeuronlakeError, ValueError):
    """SQL that cannot be run, or that would change or reach something it may not."""


class AnalysisError(NeuronlakeError, ValueError):
    """Neurons, experts or published results that cannot be grouped, tested or read as asked."""


class EngineError(NeuronlakeError):
    """Workers that are not there, cannot do what is asked of them, or died."""


class UnknownNameError(NeuronlakeError, LookupError):
    """A name that does not exist, reported with the closest and the available ones.

    Parameters
    ----------
    kind, name
        What the name should have been, such as ``"corpus"``, and the name that was asked for.
    available, where
        The names that exist, and where they were looked for, such as the store's folder.
    """

    def __init__(self, kind: str, name: str, available: Iterable[str], *, where: object = None) -> None:
        self.kind = kind
        self.name = name
        self.available = tuple(sorted(available))
        self._where = where
        message = f"no {kind} {name!r}" + (f" in {where}" if where is not None else "")
        if close := difflib.get_close_matches(name, self.available, n=1):
            message += f"; did you mean {close[0]!r}?"
        elif self.available:
            message += f"; available: {joined(self.available, most=12)}"
        else:
            message += "; there are none"
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        # An exception is copied, as between processes, from its message alone.
        where = None if self._where is None else str(self._where)
        return functools.partial(UnknownNameError, where=where), (self.kind, self.name, self.available)


def check_known(kind: str, names: Iterable[str], available: Collection[str], *, where: object = None) -> None:
    """Raise an `UnknownNameError` for the first of some names that is none of the available ones."""
    for name in names:
        if name not in available:
            raise UnknownNameError(kind, name, available, where=where)


def check_settings(settings: object, error: type[NeuronlakeError], **least: float) -> None:
    """Refuse fields of a dataclass that are no choice of their `Literal`, or are below the `least` of their name."""
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal:
            check_known(name, [getattr(settings, name)], get_args(kind))
    for name, lowest in least.items():
        if (value := getattr(settings, name)) is not None and value < lowest:
            raise error(f"{name} is {value}; it must be at least {lowest}")


def joined(names: Sequence[object], *, most: int = 8) -> str:
    """Return names as one list with commas, and how many there are beyond the first `most`."""
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def plural(n: int, noun: str) -> str:
    """Return a number and its noun."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the first line of another library's message in at most `limit` characters; after a colon, the next too.

    A message that says little alone, such as 'added_tokens' of a `KeyError`, comes with the type of the error.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if text.endswith(":") and len(lines) > 1:
        text += f" {lines[1]}"
    if lines and isinstance(error, KeyError | AttributeError | TypeError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


# What moves the cursor, gives the terminal orders, turns letters round or breaks a line: control characters (C0 with
# ESC, DEL, C1), marks of direction, separators of lines; and lone surrogates, which no stream takes.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, keep: str = "") -> str:
    r"""Return a text from anywhere as one line for a terminal: control characters become escapes such as ``\x1b``.

    Those in `keep` stay, such as ``"\n"`` in several lines of our own. JSON stays the same JSON.
    """

    def escaped(match: "re.Match[str]") -> str:
        character = match[0]
        if character in keep:
            return character
        return repr(character)[1:-1] if character < " " else f"\\u{ord(character):04x}"

    return _UNPRINTABLE.sub(escaped, text)
