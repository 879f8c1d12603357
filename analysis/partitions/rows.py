"""A partition as rows of the tables that hold it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schema.commits import neuronlake_version
from ...schema.conformance import arrow_schema
from ...schema.job import Job
from ...schema.tables import table

__all__ = ["Division", "LayerNeurons", "Origin", "write_partition"]


@dataclass(frozen=True, slots=True)
class LayerNeurons:
    """Neurons of one layer, to be divided.

    Parameters
    ----------
    stack, layer
        The layer.
    neurons
        Their indices within the layer, ascending. [members]
    """

    stack: str
    layer: int
    neurons: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Division:
    """The experts of one layer.

    Parameters
    ----------
    labels
        The expert of each neuron. [members]
    objective, objective_random
        What the method makes small, and the same of a random division into equal sizes; None if nothing.
    """

    labels: NDArray[np.integer]
    objective: float | None = None
    objective_random: float | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What neurons are of.

    Parameters
    ----------
    model, revision, step
        The checkpoint.
    run_id
        The run whose scores or activations are used, None if none.
    """

    model: str
    revision: str
    step: int | None
    run_id: str | None = None


def write_partition(
    job: Job, origin: Origin, described: Mapping[str, object], layers: Sequence[tuple[LayerNeurons, Division]]
) -> None:
    """Stage a partition: its own row, one a layer and one a neuron.

    Parameters
    ----------
    job
        A job named by the partition_id.
    origin
        What the neurons are of.
    described
        The columns of ``partitions`` that only the caller knows; those left out are NULL.
    layers
        Its layers, each with its experts.
    """
    summaries = []
    for each, division in layers:
        sizes = np.unique(division.labels, return_counts=True)[1]
        summaries.append(
            {
                "partition_id": job.name,
                "stack": each.stack,
                "layer": each.layer,
                "n_neurons": len(each.neurons),
                "n_experts": len(sizes),
                "n_smallest": int(sizes.min()),
                "n_largest": int(sizes.max()),
                "objective": division.objective,
                "objective_random": division.objective_random,
            }
        )
    objectives = [division.objective for _, division in layers if division.objective is not None]
    partition = {
        "partition_id": job.name,
        "model": origin.model,
        "revision": origin.revision,
        "step": origin.step,
        "run_id": origin.run_id,
        "n_experts": max(len(np.unique(division.labels)) for _, division in layers),
        "objective": sum(objectives) / len(objectives) if objectives else None,
        "neuronlake_version": neuronlake_version(),
        **described,
    }
    for name, rows in (("partitions", [partition]), ("partition_layers", summaries)):
        data = pa.Table.from_pylist(rows, schema=arrow_schema(table(name)))
        job.write(name, data, model=origin.model, revision=origin.revision)
    experts = pa.concat_tables(_expert_rows(job.name, each, division) for each, division in layers)
    job.write("experts", experts, model=origin.model, revision=origin.revision)


def _expert_rows(partition_id: str, each: LayerNeurons, division: Division) -> pa.Table:
    n = len(each.neurons)
    columns = {
        "partition_id": pa.repeat(partition_id, n),
        "stack": pa.repeat(each.stack, n),
        "layer": pa.array(np.full(n, each.layer, dtype=np.int16)),
        "neuron": pa.array(each.neurons),
        "expert": pa.array(division.labels.astype(np.int32)),
    }
    return pa.table({column: columns[column] for column in table("experts").column_names})
