"""Names and strings as SQL spells them."""

import glob


def literal(value: object) -> str:
    """Return `value` as an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def name(value: str) -> str:
    """Return `value` as an SQL identifier."""
    return '"' + value.replace('"', '""') + '"'


def path(value: object) -> str:
    """Return a path as an SQL string that means this file alone, even if its characters make a pattern."""
    return literal(glob.escape(str(value)))
