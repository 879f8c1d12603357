"""Rows that name neurons, as queries and people give them, checked column by column.

In every function `owner` says whose rows they are, as an error names them: ``the query``.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import AnalysisError
from ..schema.conformance import is_text

KEYS = ("stack", "layer", "neuron")
"""What names a neuron of a model."""


def check_columns(rows: pa.Table, columns: tuple[str, ...], owner: str) -> None:
    """Raise `AnalysisError` unless rows have all of these columns."""
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        has = ", ".join(rows.column_names)
        raise AnalysisError(f"{owner} must have the columns {', '.join(columns)}; no {', '.join(missing)} among {has}")


def key_column(rows: pa.Table, name: str, owner: str) -> NDArray[np.generic]:
    """Return a column that names neurons or functions [rows]: int64 of ``layer`` and ``neuron``, else objects of str.

    Raises `AnalysisError` if the column is of another type or holds NULL.
    """
    column = rows.column(name)
    is_number = name in ("layer", "neuron")
    type_ = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    check_null(column, name, owner)
    if not (pa.types.is_integer(type_) if is_number else is_text(type_)):
        raise AnalysisError(f"{owner}: column {name} is {type_}, not {'whole numbers' if is_number else 'text'}")
    return np.asarray(column.to_pylist(), dtype=np.int64 if is_number else object)


def check_null(column: pa.Array | pa.ChunkedArray, name: str, owner: str) -> None:
    """Raise `AnalysisError` if a column holds NULL."""
    if column.null_count:
        raise AnalysisError(f"{owner}: column {name} holds {column.null_count:,} NULL")


def numbers(column: pa.Array | pa.ChunkedArray, name: str, owner: str) -> NDArray[np.float64]:
    """Return a column of numbers [rows]; raise `AnalysisError` unless all of it are finite numbers."""
    check_null(column, name, owner)
    type_ = column.type
    if not (pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)):
        raise AnalysisError(f"{owner}: column {name} is {type_}, not numbers")
    values = np.asarray(column.cast(pa.float64()), dtype=np.float64)
    n_wrong = int(np.count_nonzero(~np.isfinite(values)))
    if n_wrong:
        raise AnalysisError(f"{owner}: column {name} holds {n_wrong:,} NaN or infinite values")
    return values
