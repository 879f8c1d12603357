"""Does this data conform to its declaration? Asked before anything is written.

PyArrow does not enforce ``nullable=False``, so the check is ours: names, types, NULLs, NaN and infinity,
and the grain.
"""

from collections.abc import Container, Mapping
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import SchemaError
from .tables.declaration import ColumnType, Table

__all__ = ["arrow_schema", "check", "check_columns", "check_grain", "check_values"]

_ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "bool": pa.bool_(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def arrow_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a declared table."""
    return pa.schema(
        [pa.field(column.name, _ARROW_TYPES[column.type], nullable=column.nullable) for column in table.columns]
    )


def check(table: Table, data: pa.Table) -> None:
    """Raise unless `data` conforms to `table`.

    Strings may be dictionary-encoded: that is how constant keys stay cheap.

    Raises
    ------
    SchemaError
        Naming the table, the column and the first row at fault.
    """
    check_columns(table, data.schema)
    data = _decode_irregular(data)
    check_values(table, data)
    check_grain(table, data)


def check_columns(table: Table, schema: pa.Schema, *, may_lack: Container[str] = ()) -> None:
    """Raise unless the columns are those declared, in order and of their types.

    Parameters
    ----------
    table
        The declaration.
    schema
        Names and types of the columns.
    may_lack
        Columns that may be missing.

    Raises
    ------
    SchemaError
        Naming the table and the column.
    """
    expected = [name for name in table.column_names if name in schema.names or name not in may_lack]
    if schema.names != expected:
        missing = [name for name in expected if name not in schema.names]
        extra = [name for name in schema.names if name not in table.column_names]
        problem = f"missing {missing}, not declared {extra}" if missing or extra else "in another order"
        raise SchemaError(f"table {table.name}: columns {problem}; declared: {', '.join(table.column_names)}")
    for field in schema:
        found = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        declared = _ARROW_TYPES[table.column(field.name).type]
        if found != declared:
            raise SchemaError(f"table {table.name}, column {field.name}: type {found}, declared {declared}")


def check_values(table: Table, data: pa.Table) -> None:
    """Raise if NULL stands where none may, or a number is not finite.

    Raises
    ------
    SchemaError
        Naming the table, the column and the first row at fault.
    """
    for name in data.column_names:
        values = data.column(name)
        if values.null_count and not table.column(name).nullable:
            row = _first(values.is_null())
            raise SchemaError(f"table {table.name}, column {name}: NULL at row {row}, declared not null")
        if pa.types.is_floating(values.type) and not pc.all(pc.is_finite(values)).as_py():
            wrong = pc.fill_null(pc.invert(pc.is_finite(values)), False)
            if pc.any(wrong).as_py():
                row = _first(wrong)
                raise SchemaError(f"table {table.name}, column {name}: {values[row]} at row {row}")


def _decode_irregular(data: pa.Table) -> pa.Table:
    """Decode dictionaries that hold NULL or a value twice: their codes do not tell which values are equal."""
    for index, field in enumerate(data.schema):
        if pa.types.is_dictionary(field.type):
            column = data.column(index)
            dictionaries = [chunk.dictionary for chunk in column.chunks]
            if any(each.null_count or len(each.unique()) < len(each) for each in dictionaries):
                data = data.set_column(index, field.name, column.cast(field.type.value_type))
    return data


def _first(mask: pa.ChunkedArray) -> int:
    return cast("int", pc.index(mask, True).as_py())


def check_grain(table: Table, data: pa.Table) -> None:
    """Raise if two rows agree in every column of the grain.

    Raises
    ------
    SchemaError
        Naming the table, the row and its key.
    """
    if data.num_rows < 2:
        return
    data = _decode_irregular(data)
    # One integer a row that stands for the whole key: mixed radix over per-column codes. Rows usually come
    # sorted, so that strictly increasing codes prove uniqueness without a sort.
    key = np.zeros(data.num_rows, dtype=np.int64)
    radix = 1
    for name in reversed(table.grain):
        codes, n_codes = _codes(data.column(name))
        if radix * n_codes > 2**62:
            _, inverse = np.unique(key, return_inverse=True)
            key, radix = inverse.astype(np.int64), int(inverse.max()) + 1
        if n_codes > 1:
            key += codes * radix
        radix *= n_codes
    if bool((key[1:] > key[:-1]).all()):
        return
    order = np.argsort(key, kind="stable")
    repeated = np.flatnonzero(np.diff(key[order]) == 0)
    if repeated.size:
        row = int(order[repeated[0] + 1])
        values = ", ".join(f"{name}={data.column(name)[row].as_py()!r}" for name in table.grain)
        raise SchemaError(f"table {table.name}: row {row} repeats the key {values}")


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """Return integer codes of a column, equal where values are equal, and how many there may be."""
    if pa.types.is_integer(column.type):
        values = column.to_numpy().astype(np.int64)
        low, high = int(values.min()), int(values.max())
        if high - low < 2**40:
            return values - low, high - low + 1
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    dictionary = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    indices = dictionary.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return indices, len(dictionary.dictionary)
