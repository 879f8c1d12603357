"""Names and strings as SQL spells them."""

import glob
from collections.abc import Iterable


def literal(value: object) -> str:
    """Return `value` as an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def among(values: Iterable[str]) -> str:
    """Return the rest of a condition that something is one of some strings: DuckDB tells files apart by ``=`` alone."""
    listed = sorted(map(literal, values)) or ["null"]
    return f"= {listed[0]}" if len(listed) == 1 else f"in ({', '.join(listed)})"


def name(value: str) -> str:
    """Return `value` as an SQL identifier."""
    return '"' + value.replace('"', '""') + '"'


def path(value: object) -> str:
    """Return a path as an SQL string that means this file alone, even if its characters make a pattern."""
    return literal(glob.escape(str(value)))
