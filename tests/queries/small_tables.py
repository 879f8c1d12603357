"""Conforming rows of any table, of which only some columns are given."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from neuronlake.schema.tables import TABLES


def encoded(names: list[str], codes: np.ndarray) -> pa.DictionaryArray:
    """Return the names at these places, as the dictionary array that a store holds."""
    distinct = sorted(set(names))
    positions = np.asarray([distinct.index(name) for name in names], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(positions[codes]), pa.array(distinct))


def table(name: str, rows: int, values: Mapping[str, object]) -> pa.Table:
    """Return a conforming table: a value alone is repeated, what is not given is empty or zero."""
    types = {"string": pa.string(), "bool": pa.bool_(), "timestamp": pa.timestamp("us", tz="UTC")}
    columns = {}
    for column in TABLES[name].columns:
        arrow = types.get(column.type) or getattr(pa, column.type)()
        value = values.get(column.name, {"string": "", "timestamp": 0, "bool": False}.get(column.type, 0))
        if isinstance(value, pa.DictionaryArray):
            columns[column.name] = value
        elif value is None:
            columns[column.name] = pa.nulls(rows, arrow)
        elif isinstance(value, str) and rows > 1:
            codes = pa.array(np.zeros(rows, dtype=np.int32))
            columns[column.name] = pa.DictionaryArray.from_arrays(codes, pa.array([value]))
        elif isinstance(value, np.ndarray | list):
            columns[column.name] = pa.array(value, from_pandas=True).cast(arrow)
        else:
            columns[column.name] = pa.array([value] * rows, arrow)
    return pa.table(columns)
