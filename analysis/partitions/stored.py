"""A partition of the store, as another starts from it, and as it is held against others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...queries.database import Database
from ...schema import parquet
from ...schema.store import Store
from ..lookup import find_partition
from .rows import LayerNeurons, Origin

__all__ = ["StoredPartition", "by_layer", "find_stored_partition", "read_stored_partition"]


@dataclass(frozen=True, slots=True)
class StoredPartition:
    """The experts of a committed partition.

    Parameters
    ----------
    partition_id, model, revision
        The partition, and what its neurons are of.
    layers
        Neurons and their experts, columns ``neuron`` and ``expert``, by stack and layer.
    """

    partition_id: str
    model: str
    revision: str
    layers: Mapping[tuple[str, int], Mapping[str, NDArray[Any]]]

    def check_start(self, origin: Origin, layers: Sequence[LayerNeurons], n_experts: int) -> None:
        """Refuse to start a partition of other neurons, or into another number of experts.

        Raises
        ------
        AnalysisError
            If the partition is of another model, or places other neurons of a layer, or in more or fewer experts.
        """
        if self.model != origin.model:
            raise AnalysisError(f"partition {self.partition_id} is of {self.model}, not of {origin.model}")
        for each in layers:
            found = self.layers.get((each.stack, each.layer))
            place = f"{each.stack} layer {each.layer} of {origin.model} {origin.revision}"
            if found is None:
                known = ", ".join(f"{stack} {layer}" for stack, layer in sorted(self.layers))
                raise AnalysisError(
                    f"no start for {place}: partition {self.partition_id} of {self.revision} has the layers {known}"
                )
            if not np.array_equal(found["neuron"], each.neurons):
                raise AnalysisError(
                    f"no start for {place}: partition {self.partition_id} of {self.revision} places "
                    f"{len(found['neuron']):,} neurons of this layer, of {len(each.neurons):,} to be divided"
                )
            n_found = len(np.unique(found["expert"]))
            if n_found != n_experts:
                raise AnalysisError(
                    f"no start for {n_experts:,} experts of {place}: partition {self.partition_id} of {self.revision} "
                    f"has {n_found:,}"
                )

    def centres(self, each: LayerNeurons, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the means of the rows of each expert, in the order of the experts. [experts, features].

        Parameters
        ----------
        each
            A layer that `check_start` has let pass.
        rows
            Vectors of its neurons. [members, features]
        """
        experts = self.layers[each.stack, each.layer]["expert"]
        return np.stack([rows[experts == expert].mean(axis=0) for expert in np.unique(experts)])


def find_stored_partition(database: Database, prefix: str) -> StoredPartition:
    """Return the partition whose id begins with `prefix`.

    Raises
    ------
    UnknownNameError
        If no id, or more than one, begins with it; listing partitions.
    """
    row = find_partition(database, prefix)
    return read_stored_partition(database.store, row.partition_id, row.model, row.revision)


def read_stored_partition(store: Store, partition_id: str, model: str, revision: str) -> StoredPartition:
    """Return a committed partition, read from its own files: a database of before it was committed lacks it."""
    rows = parquet.read(store.files("experts", job=partition_id), ("stack", "layer", "neuron", "expert"))
    return StoredPartition(partition_id, model, revision, by_layer(rows))


def by_layer(rows: pa.Table) -> dict[tuple[str, int], dict[str, NDArray[Any]]]:
    """Return the columns of each layer, but stack and layer themselves, its neurons ascending."""
    if not rows.num_rows:
        return {}
    rows = rows.sort_by([(name, "ascending") for name in ("stack", "layer", "neuron")])
    columns = {name: rows.column(name).to_numpy() for name in rows.column_names if name not in ("stack", "layer")}
    stack, layer = rows.column("stack").to_numpy(), rows.column("layer").to_numpy()
    starts = np.flatnonzero(np.append(True, (stack[1:] != stack[:-1]) | (layer[1:] != layer[:-1])))
    return {
        (str(stack[start]), int(layer[start])): {name: values[start:stop] for name, values in columns.items()}
        for start, stop in zip(starts, [*starts[1:], len(stack)], strict=True)
    }
