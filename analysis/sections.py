"""Sections: a sentence and the rows that it introduces, which cards, summaries and the demo are made of."""

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO

from ..errors import printable
from ..queries import quoting
from ..queries.database import Database
from ..queries.output import write
from ..queries.result import Result

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Section:
    """A sentence and the statement whose rows it introduces."""

    sentence: str  # what the rows show and how to read them; without a statement, all there is to say
    statement: str | None = None  # name of the statement, a file in ``queries/statements``
    parameters: Mapping[str, object] = field(default_factory=dict)  # values of its ``$name``, others may be among them
    otherwise: str | None = None  # what to say where it has no rows; None if then nothing is said

    def rows(self, database: Database) -> Result | None:
        """Return the rows, without columns that are NULL in all of them; None if there are no rows."""
        if self.statement is None:
            return None
        result = database.ask(self.statement, **self.parameters)
        columns = zip(result.columns, zip(*result.rows(), strict=True), strict=False)  # no columns without rows
        known = [quoting.name(name) for name, values in columns if any(value is not None for value in values)]
        return Result(result.relation.project(", ".join(known))) if known else None


def write_sections(database: Database, sections: Iterable[Section], stream: IO[str]) -> None:
    """Write sections as text: the wrapped sentence, and its rows as a table; an empty line between sections."""
    separator = ""
    for section in sections:
        rows = section.rows(database)
        sentence = section.sentence if rows is not None or section.statement is None else section.otherwise
        if sentence is None:
            continue
        lines = textwrap.wrap(printable(sentence), _WIDTH, break_long_words=False, break_on_hyphens=False)
        stream.write(separator + "".join(f"{line}\n" for line in lines))
        if rows is not None:
            write(rows, stream)
        separator = "\n"
