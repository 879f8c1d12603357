"""Rows that conform to a declared table: `conform` makes them, `check` refuses all others before they are written.

PyArrow does not enforce ``nullable=False``, so names, types, NULLs, NaN, infinity and the grain are checked here.
"""

from collections.abc import Container, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import SchemaError, one_line
from .tables import Column, Table, table

if TYPE_CHECKING:
    import polars as pl


def _arrow_type(column: Column) -> pa.DataType:
    return pa.timestamp("us", tz="UTC") if column.type == "timestamp" else pa.type_for_alias(column.type)


def arrow_schema(declared: Table) -> pa.Schema:
    """Return the Arrow schema of a declared table."""
    return pa.schema([pa.field(column.name, _arrow_type(column), column.nullable) for column in declared.columns])


def conform(
    name: str,
    data: "pa.Table | pl.DataFrame | Mapping[str, object] | Sequence[Mapping[str, object]]",
    /,
    **constants: object,
) -> pa.Table:
    """Return rows as the table called `name` declares them: its columns, in its order, of its types.

    `data` are columns, or rows by name, `constants` columns of one value, which replace those. Missing nullable columns
    become NULL; other missing ones, undeclared ones and values of another type raise `SchemaError`.

    >>> neurons = {"neuron": [0, 1], "expert": [1, 0]}
    >>> conform("experts", neurons, partition_id="p", stack="encoder", layer=0).column_names
    ['partition_id', 'stack', 'layer', 'neuron', 'expert']
    """
    declared = table(name)
    if isinstance(data, Sequence):
        if not data:
            return arrow_schema(declared).empty_table()
        names = dict.fromkeys(column for row in data for column in row)
        data = {column: [row.get(column) for row in data] for column in names}
    elif not isinstance(data, Mapping):
        arrow = pa.table(data)
        data = dict(zip(arrow.column_names, arrow.columns, strict=True))
    n_rows = len(cast("Sized", next(iter(data.values()), ())))
    nullable = [column.name for column in declared.columns if column.nullable]
    _check_names(declared, list({**data, **constants}), may_lack=nullable)
    arrays = []
    for field in arrow_schema(declared):
        try:
            if field.name in data and field.name not in constants:
                arrays.append(_cast(data[field.name], field.type))
            else:
                arrays.append(_repeated(constants.get(field.name), field.type, n_rows))
        except (pa.ArrowException, OverflowError) as error:
            raise SchemaError(f"table {name}, column {field.name}: {one_line(error)}") from error
        if len(arrays[-1]) != n_rows:
            raise SchemaError(f"table {name}, column {field.name}: {len(arrays[-1]):,} values in {n_rows:,} rows")
    return pa.Table.from_arrays(arrays, names=declared.column_names)


def check(declared: Table, data: pa.Table) -> None:
    """Raise a `SchemaError` that names table, column and first row at fault, unless rows conform to their table."""
    check_columns(declared, data.schema)
    check_values(declared, _decode_irregular(data))
    check_grain(declared, data)


def check_columns(declared: Table, schema: pa.Schema, *, may_lack: Container[str] = ()) -> None:
    """Raise a `SchemaError` unless a schema has the declared columns but `may_lack`, in order and of their types."""
    _check_names(declared, schema.names, may_lack=may_lack)
    if schema.names != [name for name in declared.column_names if name in schema.names]:
        order = ", ".join(declared.column_names)
        raise SchemaError(f"table {declared.name}: columns in another order; declared: {order}")
    for field in schema:  # strings may be dictionary-encoded
        given = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        expected = _arrow_type(declared.column(field.name))
        if given != expected:
            raise SchemaError(f"table {declared.name}, column {field.name}: type {given}, declared {expected}")


def check_values(declared: Table, data: pa.Table) -> None:
    """Raise a `SchemaError` if a column that is not nullable holds NULL, or a number is NaN or infinite."""
    for name, values in zip(data.column_names, data.columns, strict=True):
        where = f"table {declared.name}, column {name}"
        if values.null_count and not declared.column(name).nullable:
            row = pc.index(values.is_null(), True).as_py()
            raise SchemaError(f"{where}: NULL at row {row}, declared not null")
        if pa.types.is_floating(values.type):
            row = pc.index(pc.is_finite(values), False).as_py()
            if row >= 0:
                raise SchemaError(f"{where}: {values[row]} at row {row}")


def check_grain(declared: Table, data: pa.Table) -> None:
    """Raise a `SchemaError` that names the row and its key, if two rows agree in every column of the grain."""
    if data.num_rows < 2:
        return
    data = _decode_irregular(data)
    # An integer for each row stands for its whole key: mixed radix over per-column codes. Rows usually come
    # sorted, so that strictly increasing codes prove uniqueness without a sort.
    key = np.zeros(data.num_rows, dtype=np.int64)
    radix = 1
    for name in reversed(declared.grain):
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
        values = ", ".join(f"{name}={data.column(name)[row].as_py()!r}" for name in declared.grain)
        raise SchemaError(f"table {declared.name}: row {row} repeats the key {values}")


def _check_names(declared: Table, names: Sequence[str], *, may_lack: Container[str]) -> None:
    missing = [name for name in declared.column_names if name not in names and name not in may_lack]
    extra = [name for name in names if name not in declared.column_names]
    if missing or extra:
        problem = f"columns missing {missing}, not declared {extra}"
        raise SchemaError(f"table {declared.name}: {problem}; declared: {', '.join(declared.column_names)}")


def _cast(values: object, type_: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """Return values as an Arrow column of a type, no text as a number nor the reverse; strings may be encoded."""
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    given = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not pa.types.is_null(given) and any(test(given) != test(type_) for test in (is_text, pa.types.is_boolean)):
        raise pa.ArrowInvalid(f"type {given}, declared {type_}")
    return column if given != column.type and given == type_ else column.cast(type_)


def is_text(type_: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's types of text."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _repeated(value: object, type_: pa.DataType, n_rows: int) -> pa.Array:
    """Return a column of one value; a string is dictionary-encoded."""
    if isinstance(value, str) and pa.types.is_string(type_):
        return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n_rows), pa.array([value]))
    return pa.repeat(pa.scalar(value, type_), n_rows)


def _decode_irregular(data: pa.Table) -> pa.Table:
    """Decode dictionaries that hold NULL or a value twice: equal codes are not equal values there."""
    for index, column in enumerate(data.columns):
        if pa.types.is_dictionary(column.type):
            dictionaries = [chunk.dictionary for chunk in column.chunks]
            if any(values.null_count or len(values.unique()) < len(values) for values in dictionaries):
                data = data.set_column(index, data.column_names[index], column.cast(column.type.value_type))
    return data


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], int]:
    """Return integer codes of a column, equal where values are equal, and how many there may be."""
    if pa.types.is_integer(column.type):
        values = column.to_numpy().astype(np.int64)
        low, high = int(values.min()), int(values.max())
        if high - low < 2**40:
            return values - low, high - low + 1
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    indices = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return indices, len(encoded.dictionary)
