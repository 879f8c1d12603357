"""A partition of the store: another may start from it, or be compared with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...schema import parquet
from ...schema.store import Store
from .rows import Key, Origin


@dataclass(frozen=True, slots=True)
class StoredPartition:
    """The experts of a committed partition."""

    partition_id: str
    model: str
    revision: str
    # Columns ``neuron`` and ``expert`` of each layer, by its stack and number [members]
    layers: Mapping[Key, Mapping[str, NDArray[Any]]]

    def check_start(self, origin: Origin, neurons: Mapping[Key, NDArray[np.integer]], n_experts: int) -> None:
        """Raise `AnalysisError` unless this partition has the same model, neurons and number of experts."""
        if self.model != origin.model:
            raise AnalysisError(f"partition {self.partition_id} is of {self.model}, not of {origin.model}")
        for key, divided in neurons.items():
            start = self.layers.get(key)
            place = f"{key[0]} layer {key[1]} of {origin.model} {origin.revision}"
            if start is None:
                known = ", ".join(f"{stack} {number}" for stack, number in sorted(self.layers))
                raise AnalysisError(
                    f"no start for {place}: partition {self.partition_id} of {self.revision} has the layers {known}"
                )
            if not np.array_equal(start["neuron"], divided):
                raise AnalysisError(
                    f"no start for {place}: partition {self.partition_id} of {self.revision} places "
                    f"{len(start['neuron']):,} neurons of this layer, of {len(divided):,} to be divided"
                )
            n_start = len(np.unique(start["expert"]))
            if n_start != n_experts:
                raise AnalysisError(
                    f"no start for {n_experts:,} experts of {place}: partition {self.partition_id} of {self.revision} "
                    f"has {n_start:,}"
                )

    def centres(self, layer: Key, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the mean vector of each expert of a layer that `check_start` accepts, in the order of the experts.

        `vectors` are those of the layer's neurons [members, features], the means are [experts, features].
        """
        experts = self.layers[layer]["expert"]
        return np.stack([vectors[experts == expert].mean(axis=0) for expert in np.unique(experts)])


def read_stored_partition(store: Store, partition_id: str, model: str, revision: str) -> StoredPartition:
    """Return a committed partition, read from its own files, as an open database may be older than the commit."""
    rows = parquet.read(store.files("experts", job=partition_id), ("stack", "layer", "neuron", "expert"))
    return StoredPartition(partition_id, model, revision, by_layer(rows))


def by_layer(rows: pa.Table | pl.DataFrame) -> dict[Key, dict[str, NDArray[Any]]]:
    """Return the columns of each layer, by its stack and number, both sorted; the neurons ascend. [members]."""
    frame = pl.DataFrame(rows).sort("stack", "layer", "neuron")
    layers = frame.partition_by("stack", "layer", as_dict=True, include_key=False, maintain_order=True)
    return {
        (str(stack), int(layer)): {name: columns[name].to_numpy() for name in columns.columns}
        for (stack, layer), columns in layers.items()
    }
