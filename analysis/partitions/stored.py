"""A partition as the store holds it: what is written, and what is read for another to start from or compare with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...schema import parquet
from ...schema.commits import neuronlake_version
from ...schema.conformance import conform
from ...schema.job import Job
from ...schema.store import Store

Key = tuple[str, int]
"""The stack and number of a layer."""


@dataclass(frozen=True, slots=True)
class Division:
    """Neurons of one layer, divided into experts."""

    neurons: NDArray[np.integer]  # ascending [members]
    labels: NDArray[np.integer]  # the expert of each [members]
    # What the method minimises, and the same of random experts of equal sizes; None where it minimises nothing
    objective: float | None = None
    objective_random: float | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The checkpoint that neurons belong to."""

    model: str
    revision: str
    step: int | None
    run_id: str | None = None  # the run whose scores or activations divide them, None if none does


@dataclass(frozen=True, slots=True)
class StoredPartition:
    """The experts of a committed partition."""

    partition_id: str
    model: str
    revision: str
    layers: Mapping[Key, Mapping[str, NDArray[Any]]]  # columns ``neuron`` and ``expert`` of each [members]

    def check_start(self, origin: Origin, neurons: Mapping[Key, NDArray[np.integer]], n_experts: int) -> None:
        """Raise `AnalysisError` unless this partition has the same model, neurons and number of experts."""
        if self.model != origin.model:
            raise AnalysisError(f"partition {self.partition_id} is of {self.model}, not of {origin.model}")
        for key, divided in neurons.items():
            what, start = f"{key[0]} layer {key[1]} of {origin.model} {origin.revision}", self.layers.get(key)
            if start is None:
                has = f"has the layers {', '.join(f'{stack} {layer}' for stack, layer in sorted(self.layers))}"
            elif not np.array_equal(start["neuron"], divided):
                has = f"places {len(start['neuron']):,} neurons of this layer, of {len(divided):,} to be divided"
            elif (n_start := len(np.unique(start["expert"]))) != n_experts:
                what, has = f"{n_experts:,} experts of {what}", f"has {n_start:,}"
            else:
                continue
            raise AnalysisError(f"no start for {what}: partition {self.partition_id} of {self.revision} {has}")


def write_partition(job: Job, origin: Origin, columns: Mapping[str, object], divisions: Mapping[Key, Division]) -> None:
    """Stage the rows of a partition, its layers and neurons in a job named by its id; `columns` are of itself."""
    experts = pl.concat(
        pl.DataFrame({"stack": stack, "layer": layer, "neuron": division.neurons, "expert": division.labels})
        for (stack, layer), division in divisions.items()
    )
    size = pl.col("expert").value_counts().struct.field("count")
    layers = (
        experts.group_by("stack", "layer", maintain_order=True)
        .agg(n_neurons=pl.len(), n_experts=pl.col("expert").n_unique(), n_smallest=size.min(), n_largest=size.max())
        .with_columns(
            pl.Series(name, [getattr(division, name) for division in divisions.values()], pl.Float64)
            for name in ("objective", "objective_random")
        )
    )
    most, mean = layers["n_experts"].max(), layers["objective"].mean()
    partition = {**asdict(origin), "n_experts": most, "objective": mean, "neuronlake_version": neuronlake_version()}
    for name, rows in (("partitions", [partition | {**columns}]), ("partition_layers", layers), ("experts", experts)):
        job.write(name, conform(name, rows, partition_id=job.name), model=origin.model, revision=origin.revision)


def read_stored_partition(store: Store, partition_id: str, model: str, revision: str) -> StoredPartition:
    """Return a committed partition, read from its own files, as an open database may be older than the commit."""
    rows = parquet.read(store.files("experts", job=partition_id), ("stack", "layer", "neuron", "expert"))
    return StoredPartition(partition_id, model, revision, by_layer(rows))


def by_layer(rows: pa.Table | pl.DataFrame) -> dict[Key, dict[str, NDArray[Any]]]:
    """Return the columns of each layer, sorted by stack and number; the neurons ascend. [members]."""
    frame = pl.DataFrame(rows).sort("stack", "layer", "neuron")
    layers = frame.partition_by("stack", "layer", as_dict=True, include_key=False, maintain_order=True)
    return {
        (str(stack), int(layer)): {name: columns[name].to_numpy() for name in columns.columns}
        for (stack, layer), columns in layers.items()
    }
