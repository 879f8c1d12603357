"""What the prompt offers to complete."""

import re
from collections.abc import Iterable, Mapping, Sequence

from ..schema.tables import TABLES
from . import catalog

__all__ = ["COMMANDS", "Completer"]

COMMANDS: Mapping[str, str] = {
    ".tables": "list the tables",
    ".views": "list the views and what they answer",
    ".schema": "NAME: the columns of a table or view",
    ".refresh": "read what was committed and kept meanwhile",
    ".help": "this list",
    ".quit": "leave",
}

_KEYWORDS = (
    "and",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "count",
    "cross",
    "desc",
    "describe",
    "distinct",
    "else",
    "end",
    "except",
    "exists",
    "explain",
    "false",
    "from",
    "full",
    "group",
    "having",
    "ilike",
    "in",
    "inner",
    "intersect",
    "is",
    "join",
    "left",
    "like",
    "limit",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "outer",
    "over",
    "partition",
    "pivot",
    "qualify",
    "right",
    "sample",
    "select",
    "summarize",
    "table",
    "then",
    "true",
    "union",
    "unpivot",
    "using",
    "values",
    "when",
    "where",
    "with",
)


class Completer:
    """Completes SQL keywords, commands, and the names of tables, views and their columns."""

    def __init__(self) -> None:
        self.columns: Mapping[str, tuple[str, ...]] = {
            **{table.name: table.column_names for table in TABLES.values()},
            **{view.name: tuple(column.name for column in view.columns) for view in catalog.views()},
        }

    def complete(self, text: str) -> Sequence[str]:
        """Return what the word at the end of `text` may become, the likeliest first.

        After ``from`` and ``join`` come tables and views; elsewhere the columns of those the statement names
        come first.

        Parameters
        ----------
        text
            The statement up to the cursor.
        """
        if text.lstrip().startswith("."):
            command, _, rest = text.lstrip().partition(" ")
            if command == ".schema" and text[-1:] != command[-1:]:
                return _starting(rest.strip(), sorted(self.columns))
            return _starting(command, COMMANDS)
        found = re.search(r"(\w*)$", text)
        word = found.group(1).lower() if found else ""
        before = re.findall(r"\w+|[^\w\s]", text[: len(text) - len(word)].lower())
        if before and before[-1] in ("from", "join", "describe", "summarize"):
            return _starting(word, sorted(self.columns))
        if not word:
            return ()
        named = [name for name in before if name in self.columns]
        of_named = sorted({column for name in named for column in self.columns[name]})
        others = sorted({column for columns in self.columns.values() for column in columns})
        return _starting(word, [*of_named, *_KEYWORDS, *sorted(self.columns), *([] if named else others)])


def _starting(word: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(word) and name != word]
