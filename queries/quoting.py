"""Names and strings as SQL spells them."""

__all__ = ["literal", "name"]


def literal(value: object) -> str:
    """Return `value` as an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def name(value: str) -> str:
    """Return `value` as an SQL identifier."""
    return '"' + value.replace('"', '""') + '"'
