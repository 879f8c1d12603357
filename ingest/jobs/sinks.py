"""What is measured from a layer's neurons, as their activations come: scores, routing, coactivations.

Each is a *sink*: `run.measure` feeds all of them in one loop over the layers and their blocks of neurons.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ...schema.job import Job
from ..neurons.feed_forwards import Layer
from ..neurons.weights import weight_norms
from ..scores.coactivation import active_bits, closest_partners
from ..scores.scoring import Scores, compile_kernels, score
from . import rows
from .measurement import Measurement
from .settings import Coactivation

__all__ = ["CoactivationTables", "RoutingTables", "ScoreTables", "Sink"]

# Rows a part aims at: large enough for whole row groups, small enough to build in memory.
PART_ROWS = 2_000_000


class Sink(Protocol):
    """What takes the activations of each layer it lacks, one layer after the other."""

    phase: str
    """Name of the work, for progress."""

    def lacks(self, layer: Layer) -> bool:
        """Return whether a layer is still to be measured: no earlier attempt at the job staged it."""

    def add(self, layer: Layer, start: int, block: NDArray[np.float32]) -> None:
        """Take the activations [neurons, instances] of some neurons of a layer, `start` the first of them.

        Blocks come in order, from neuron 0 on.

        Raises
        ------
        NonFiniteError
            If an activation is NaN or infinite.
        """

    def finish(self, layer: Layer, shares: NDArray[np.float32] | None) -> None:
        """End a layer; `shares` are those of each instance's tokens that each expert got [experts, instances].

        Raises
        ------
        StoreError
            If the disk refuses.
        """


class _StagedTables:
    """Tables of a job, staged in parts of some layers each: what a killed attempt staged is not made again.

    Parameters
    ----------
    measurement
        What is measured.
    job
        The job to stage them in.
    tables
        Their names. The last is written last, so that it stands for all of a part.
    n_rows
        Rows of each layer to measure, of the table that has most.
    """

    def __init__(self, measurement: Measurement, job: Job, tables: tuple[str, ...], n_rows: dict[Layer, int]) -> None:
        self.measurement = measurement
        self.job = job
        parts: list[list[Layer]] = []
        n_part = 0
        for layer, n in n_rows.items():
            if not parts or n_part + n > PART_ROWS:
                parts.append([])
                n_part = 0
            parts[-1].append(layer)
            n_part += n
        self._parts = {number: part for number, part in enumerate(parts) if not job.is_staged(tables[-1], number)}
        self._rows: dict[str, list[pa.Table]] = {name: [] for name in tables}

    def lacks(self, layer: Layer) -> bool:
        return any(layer in part for part in self._parts.values())

    def add(self, layer: Layer, start: int, block: NDArray[np.float32]) -> None:
        pass

    def stage(self, layer: Layer, tables: Mapping[str, pa.Table]) -> None:
        """Take the rows of a layer; with the last of its part, write the part."""
        for name, table in tables.items():
            self._rows[name].append(table)
        number = next((number for number, part in self._parts.items() if layer == part[-1]), None)
        if number is not None:
            self.write_part(number)

    def write_part(self, number: int) -> None:
        keys = self.measurement.keys
        for name, tables in self._rows.items():
            self.job.write(name, pa.concat_tables(tables), part=number, model=keys.model, revision=keys.revision)
            tables.clear()


class ScoreTables(_StagedTables):
    """Scores every neuron for every function: tables ``neurons``, ``top_instances`` and ``neuron_functions``.

    Parameters
    ----------
    measurement
        What is measured.
    job
        The run's job.
    """

    phase = "scoring"

    def __init__(self, measurement: Measurement, job: Job) -> None:
        n_functions = len(measurement.labels.functions)
        n_rows = {layer: layer.n_neurons * n_functions for layer in measurement.layers}
        super().__init__(measurement, job, ("neurons", "top_instances", "neuron_functions"), n_rows)
        self._scores: list[Scores] = []
        if self._parts:
            compile_kernels(measurement.labels)

    def add(self, layer: Layer, start: int, block: NDArray[np.float32]) -> None:
        """Score a block of neurons."""
        self._scores.append(_score(self.measurement, block, n_top=self.measurement.settings.n_top))

    def finish(self, layer: Layer, shares: NDArray[np.float32] | None) -> None:
        """Make the rows of a layer."""
        scores, measurement = Scores.concatenated(self._scores), self.measurement
        self._scores = []
        keys, norms = measurement.keys, weight_norms(measurement.model.module, layer)
        corpus, instance_id = measurement.corpus.name, measurement.tokens.instance_id
        self.stage(
            layer,
            {
                "neurons": rows.neuron_rows(keys, layer, scores, norms, shares),
                "top_instances": rows.top_instance_rows(keys, layer, scores, corpus=corpus, instance_id=instance_id),
                "neuron_functions": rows.neuron_function_rows(keys, layer, scores, measurement.labels.functions),
            },
        )


class RoutingTables(_StagedTables):
    """Scores the tokens each expert gets as if they were a neuron's activations: table ``routing``.

    Parameters
    ----------
    measurement
        What is measured; in a dense model there is nothing to stage.
    job
        The run's job.
    """

    phase = "scoring"

    def __init__(self, measurement: Measurement, job: Job) -> None:
        n_functions = len(measurement.labels.functions)
        layers = [layer for layer in measurement.layers if layer.n_native_experts]
        n_rows = {layer: layer.n_native_experts * n_functions for layer in layers}
        super().__init__(measurement, job, ("routing",), n_rows)

    def finish(self, layer: Layer, shares: NDArray[np.float32] | None) -> None:
        """Score the shares of a layer's experts."""
        if shares is not None:
            scores, functions = _score(self.measurement, shares, n_top=0), self.measurement.labels.functions
            self.stage(layer, {"routing": rows.routing_rows(self.measurement.keys, layer, scores, functions)})


class CoactivationTables(_StagedTables):
    """Finds the neurons that are active together, layer by layer: table ``coactivations``.

    Parameters
    ----------
    measurement
        What is measured.
    coactivation
        Which co-activation to measure.
    job
        The job to stage them in, beside the run's.
    """

    phase = "pairing"

    def __init__(self, measurement: Measurement, coactivation: Coactivation, job: Job) -> None:
        n_rows = {layer: layer.n_neurons * coactivation.n_partners for layer in measurement.layers}
        super().__init__(measurement, job, ("coactivations",), n_rows)
        self._coactivation = coactivation
        self._n_highest = coactivation.n_highest(measurement.n_instances)
        self._bits = np.empty((0, 0), dtype=np.uint64)

    def add(self, layer: Layer, start: int, block: NDArray[np.float32]) -> None:
        """Keep on which instances a block of neurons is active."""
        bits = active_bits(block, n_highest=self._n_highest)
        if start == 0:
            self._bits = np.empty((layer.n_neurons, bits.shape[1]), dtype=np.uint64)
        self._bits[start : start + len(bits)] = bits

    def finish(self, layer: Layer, shares: NDArray[np.float32] | None) -> None:
        """Find the partners of a layer's neurons."""
        partners = closest_partners(self._bits, self._coactivation.n_partners, n_threads=torch.get_num_threads())
        activity = self._coactivation.activity
        self.stage(layer, {"coactivations": rows.coactivation_rows(self.measurement.keys, layer, partners, activity)})


def _score(measurement: Measurement, activations: NDArray[np.float32], *, n_top: int) -> Scores:
    return score(activations, measurement.labels, n_top=n_top, n_threads=torch.get_num_threads())
