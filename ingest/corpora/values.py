"""What one value of a file stands for: the same whether CSV holds it as text, JSON as a number or Parquet as either."""

import math
import reprlib

from ...errors import IngestError

__all__ = ["boolean", "is_null", "whole_number", "without_gap"]

_WORDS = {"true": True, "yes": True, "false": False, "no": False}
_NULLS = frozenset(["", "na", "nan", "none", "null"])


def is_null(value: object) -> bool:
    """Return whether a value is None, or NaN, which pandas writes for None."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def without_gap(value: object) -> object:
    """Return what a value is without what pandas makes of it beside a gap: None for NaN, 1 for 1.0.

    Examples
    --------
    >>> [without_gap(value) for value in (float("nan"), 1.0, 0.5, "1.0")]
    [None, 1, 0.5, '1.0']
    """
    if is_null(value):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def boolean(value: object) -> bool | None:
    """Return a truth value, None for NULL.

    Raises
    ------
    IngestError
        If the value is neither true, false, 0 nor 1, nor a text of these or of yes or no.

    Examples
    --------
    >>> [boolean(value) for value in (True, 0.0, "1.0", "No", "", None)]
    [True, False, True, False, None, None]
    """
    found = _number(_WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value)
    if found is None or isinstance(found, bool):
        return found
    if found in (0, 1):
        return bool(found)
    raise IngestError(f"not boolean: {reprlib.repr(value)}")


def whole_number(value: object) -> int | None:
    """Return a whole number, None for NULL.

    Raises
    ------
    IngestError
        If the value is neither a whole number nor a text of one.

    Examples
    --------
    >>> [whole_number(value) for value in (3, "3", 3.0, "3.0", "")]
    [3, 3, 3, 3, None]
    """
    found = _number(value)
    if found is None or (isinstance(found, int) and not isinstance(found, bool)):
        return found
    raise IngestError(f"not a whole number: {reprlib.repr(value)}")


def _number(value: object) -> object:
    """Return the number that a value or its text is, None for NULL, anything else as it is."""
    if isinstance(value, str):
        if value.strip().lower() in _NULLS:
            return None
        try:
            return int(value)
        except ValueError:
            pass
        try:
            value = float(value)
        except ValueError:
            return value
    return without_gap(value)
