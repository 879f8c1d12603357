"""Vectors of features of neurons, from a query."""

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...queries.database import Database
from ..neuron_rows import KEYS, check_columns, check_null, key_column, numbers

__all__ = ["features_sha256", "read_features"]

_OWNER = "the query"


def features_sha256(vectors: Mapping[tuple[str, int], NDArray[np.float64]]) -> str:
    """Return the digest of features, given by stack and layer, as `read_features` does."""
    digest = hashlib.sha256()
    for (stack, layer), each in vectors.items():
        digest.update(f"{stack} {layer} {each.shape}\n".encode())
        digest.update(np.ascontiguousarray(each).data)
    return digest.hexdigest()


def read_features(
    database: Database, query: str, n_neurons: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Run a query that yields stack, layer, neuron and features, and check that its rows are whole layers.

    Parameters
    ----------
    database
        The store.
    query
        The SQL. Features are all its other columns, in order: numbers, or lists of as many numbers in each row.
    n_neurons
        How many neurons each layer has, by its stack and number.

    Returns
    -------
    vectors
        Features of all neurons of each layer, by its stack and number, sorted by both. [neurons, features]

    Raises
    ------
    QueryError
        If the SQL is wrong.
    AnalysisError
        If a column is missing or holds no numbers, if a feature is NULL, NaN or infinite, if lists differ in length,
        or if the rows of a layer are not all its neurons, each once.
    """
    rows = database.sql(query).arrow()
    check_columns(rows, KEYS, _OWNER)
    if not rows.num_rows:
        raise AnalysisError("the query yields no rows")
    stack, layer, neuron = (key_column(rows, name, _OWNER) for name in KEYS)
    order = np.lexsort((neuron, layer, stack))
    stack, layer, neuron = stack[order], layer[order], neuron[order]
    features = _features(rows)[order]
    is_first = np.append(True, (stack[1:] != stack[:-1]) | (layer[1:] != layer[:-1]))
    starts = np.flatnonzero(is_first)
    vectors = {}
    for start, stop in zip(starts, np.append(starts[1:], len(order)), strict=True):
        key = str(stack[start]), int(layer[start])
        _check_neurons(key, neuron[start:stop], n_neurons)
        vectors[key] = features[start:stop]
    return vectors


def _check_neurons(key: tuple[str, int], neuron: NDArray[np.generic], n_neurons: Mapping[tuple[str, int], int]) -> None:
    """Refuse rows of a layer that are not all its neurons, each once; sorted."""
    where = f"{key[0]} layer {key[1]}"
    if key not in n_neurons:
        known = ", ".join(f"{stack} {layer}" for stack, layer in n_neurons)
        raise AnalysisError(f"the query yields {where}, which the store does not know; it has {known}")
    every = np.arange(n_neurons[key])
    repeated = neuron[1:][neuron[1:] == neuron[:-1]]
    if len(repeated):
        raise AnalysisError(f"the query yields {where}, neuron {repeated[0]} more than once")
    unknown = np.setdiff1d(neuron, every)
    if len(unknown):
        raise AnalysisError(f"the query yields {where}, neuron {unknown[0]}; the layer has {len(every):,} neurons")
    absent = np.setdiff1d(every, neuron)
    if len(absent):
        raise AnalysisError(
            f"the query lacks {len(absent):,} of the {len(every):,} neurons of {where}, neuron {absent[0]} the first"
        )


def _features(rows: pa.Table) -> NDArray[np.float64]:
    """Return all columns that are no keys side by side, as [rows, features]."""
    names = [name for name in rows.column_names if name not in KEYS]
    if not names:
        raise AnalysisError("the query yields no features beside stack, layer and neuron")
    features = np.column_stack([_feature(name, rows.column(name).combine_chunks()) for name in names])
    if not features.shape[1]:
        raise AnalysisError(f"the query's lists {', '.join(names)} are empty")
    return features


def _feature(name: str, column: pa.Array) -> NDArray[np.float64]:
    """Return a column of numbers, or of lists of numbers, as float64 [rows, features]."""
    n_rows = len(column)
    for values in _levels(name, column):
        check_null(values, name, _OWNER)
        column = values
    return numbers(column, name, _OWNER).reshape(n_rows, -1)


def _levels(name: str, column: pa.Array) -> Iterator[pa.Array]:
    """Yield a column, and what is in its lists if it has any, which must be of one length."""
    yield column
    if isinstance(column, pa.ListArray | pa.FixedSizeListArray | pa.LargeListArray):
        lengths = pc.min_max(pc.list_value_length(column)).as_py()
        if lengths["min"] != lengths["max"]:
            raise AnalysisError(f"the query's lists {name} have from {lengths['min']} to {lengths['max']} numbers")
        yield column.flatten()
