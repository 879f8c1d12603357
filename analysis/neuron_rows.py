"""Rows that name neurons, as queries and people give them, checked column by column.

In every function `owner` says whose rows they are, as an error names them: ``the query``. Errors are `AnalysisError`.
"""

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import AnalysisError
from ..schema.conformance import is_text

KEYS = ("stack", "layer", "neuron")
"""What names a neuron of a model."""


def read_neurons(rows: pa.Table, owner: str, *named: str, level: str | None = None) -> pl.DataFrame:
    """Return the columns stack, layer, neuron and `named`, and that of a name as ``level``; refuse rows without them.

    Layer and neuron must be whole numbers, the level finite numbers, all else text.
    """
    wanted = (*KEYS, *named) if level is None else (*KEYS, *named, level)
    if missing := [name for name in wanted if name not in rows.column_names]:
        has = ", ".join(rows.column_names)
        raise AnalysisError(f"{owner} must have the columns {', '.join(wanted)}; no {', '.join(missing)} among {has}")
    columns = {name: _key(rows.column(name), name, owner) for name in (*KEYS, *named)}
    if level is not None:
        columns["level"] = numbers(rows.column(level), level, owner)
    return pl.DataFrame(columns)


def _key(column: pa.ChunkedArray, name: str, owner: str) -> NDArray[np.generic]:
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
    if n_wrong := int(np.count_nonzero(~np.isfinite(values))):
        raise AnalysisError(f"{owner}: column {name} holds {n_wrong:,} NaN or infinite values")
    return values
