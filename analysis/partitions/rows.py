"""A partition as rows of the tables that hold it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...schema.commits import neuronlake_version
from ...schema.conformance import conform
from ...schema.job import Job

Key = tuple[str, int]
"""The stack and number of a layer."""


@dataclass(frozen=True, slots=True)
class Division:
    """Neurons of one layer, divided into experts."""

    neurons: NDArray[np.integer]  # their indices within the layer, ascending [members]
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


def write_partition(
    job: Job, origin: Origin, described: Mapping[str, object], divisions: Mapping[Key, Division]
) -> None:
    """Stage the rows of a partition in a job named by its id: its own, one for each layer and one for each neuron.

    `described` has the columns of ``partitions`` that only the caller knows; a column that neither knows is NULL.
    """
    summaries: list[dict[str, Any]] = []
    experts = []
    for (stack, layer), division in divisions.items():
        keys = {"stack": stack, "layer": layer}
        sizes = np.unique(division.labels, return_counts=True)[1]
        summaries.append(
            {
                **keys,
                "n_neurons": len(division.neurons),
                "n_experts": len(sizes),
                "n_smallest": int(sizes.min()),
                "n_largest": int(sizes.max()),
                "objective": division.objective,
                "objective_random": division.objective_random,
            }
        )
        members = pl.DataFrame({"neuron": division.neurons, "expert": division.labels})
        experts.append(members.with_columns(**{name: pl.lit(value) for name, value in keys.items()}))
    objectives = [division.objective for division in divisions.values() if division.objective is not None]
    partition = {
        "model": origin.model,
        "revision": origin.revision,
        "step": origin.step,
        "run_id": origin.run_id,
        "n_experts": max(summary["n_experts"] for summary in summaries),
        "objective": sum(objectives) / len(objectives) if objectives else None,
        "neuronlake_version": neuronlake_version(),
        **described,
    }
    for name, rows in (("partitions", [partition]), ("partition_layers", summaries), ("experts", pl.concat(experts))):
        data = conform(name, rows, partition_id=job.name)
        job.write(name, data, model=origin.model, revision=origin.revision)
