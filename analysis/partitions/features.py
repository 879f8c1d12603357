"""Feature vectors of neurons, from a query."""

import hashlib
from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...queries.database import Database
from ..neuron_rows import KEYS, check_columns, check_null, key_column, numbers
from .stored import Key, by_layer

_OWNER = "the query"


def features_sha256(vectors: Mapping[Key, NDArray[np.float64]]) -> str:
    """Return the digest of what `read_features` returns."""
    digest = hashlib.sha256()
    for (stack, layer), features in vectors.items():
        digest.update(f"{stack} {layer} {features.shape}\n".encode())
        digest.update(np.ascontiguousarray(features).data)
    return digest.hexdigest()


def read_features(
    database: Database,
    query: str,
    n_neurons: Mapping[Key, int],  # of the layers that the store knows
) -> dict[Key, NDArray[np.float64]]:
    """Run a query and return the features of its neurons [neurons, features], by stack and layer, both sorted.

    Features are all columns beside stack, layer and neuron, in order: numbers, or lists of numbers of one length.
    Raises `AnalysisError` if a column is missing or holds anything but finite numbers, or if the rows of a layer are
    not all its neurons, each once.
    """
    rows = database.sql(query).arrow()
    check_columns(rows, KEYS, _OWNER)
    if not rows.num_rows:
        raise AnalysisError("the query yields no rows")
    keys = pl.DataFrame({name: key_column(rows, name, _OWNER) for name in KEYS})
    names = [name for name in rows.column_names if name not in KEYS]
    if not names:
        raise AnalysisError("the query yields no features beside stack, layer and neuron")
    features = np.column_stack([_feature(name, rows.column(name).combine_chunks()) for name in names])
    if not features.shape[1]:
        raise AnalysisError(f"the query's lists {', '.join(names)} are empty")
    layers = by_layer(keys.with_row_index("row"))
    for key, columns in layers.items():
        _check_neurons(key, columns["neuron"], n_neurons)
    return {key: features[columns["row"]] for key, columns in layers.items()}


def _check_neurons(key: Key, neuron: NDArray[np.int64], n_neurons: Mapping[Key, int]) -> None:
    """Refuse neurons, which ascend, that are not all neurons of the layer, each once."""
    where = f"{key[0]} layer {key[1]}"
    if key not in n_neurons:
        known = ", ".join(f"{stack} {layer}" for stack, layer in n_neurons)
        raise AnalysisError(f"the query yields {where}, which the store does not know; it has {known}")
    n = n_neurons[key]
    repeated = neuron[1:][neuron[1:] == neuron[:-1]]
    if len(repeated):
        raise AnalysisError(f"the query yields {where}, neuron {repeated[0]} more than once")
    unknown = neuron[(neuron < 0) | (neuron >= n)]
    if len(unknown):
        raise AnalysisError(f"the query yields {where}, neuron {unknown[0]}; the layer has {n:,} neurons")
    absent = np.setdiff1d(np.arange(n), neuron)
    if len(absent):
        raise AnalysisError(
            f"the query lacks {len(absent):,} of the {n:,} neurons of {where}, neuron {absent[0]} the first"
        )


def _feature(name: str, column: pa.Array) -> NDArray[np.float64]:
    """Return a column of numbers, or of lists that are as long in every row. [rows, features]."""
    n_rows = len(column)
    check_null(column, name, _OWNER)
    if isinstance(column, pa.ListArray | pa.FixedSizeListArray | pa.LargeListArray):
        lengths = pc.min_max(pc.list_value_length(column)).as_py()
        if lengths["min"] != lengths["max"]:
            raise AnalysisError(f"the query's lists {name} have from {lengths['min']} to {lengths['max']} numbers")
        column = column.flatten()
    return numbers(column, name, _OWNER).reshape(n_rows, -1)
