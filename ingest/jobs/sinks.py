"""Sinks: what takes the activations of a layer's neurons and makes tables of them (scores, routing, coactivations)."""

from abc import ABC, abstractmethod

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ...schema.job import Job
from ..neurons.feed_forwards import Layer
from ..neurons.weights import weight_norms
from ..scores.coactivation import active_bits, closest_partners
from ..scores.scoring import Scores, compile_kernels, score
from .measurement import Measurement
from .rows import Keys, coactivation_rows, neuron_function_rows, neuron_rows, routing_rows, top_instance_rows
from .settings import Coactivation

# Rows a part aims at: large enough for whole row groups, small enough to build in memory.
PART_ROWS = 2_000_000


class Sink(ABC):
    """Takes the activations of layers, one layer after the other, and stages tables made of them.

    For each layer that the sink `lacks`, `run.measure` calls `add` with every block of neurons, then `finish`. Tables
    are staged in parts of some layers each; a part that a killed attempt staged is not made again.
    """

    phase = "scoring"

    def __init__(
        self,
        measurement: Measurement,
        job: Job,
        tables: tuple[str, ...],  # the last is written last, so that it stands for all tables of a part
        n_rows: dict[Layer, int],  # rows of each layer to measure, in the table that has most
    ) -> None:
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
        """Return whether a layer is to be measured and not staged yet."""
        return any(layer in part for part in self._parts.values())

    def add(self, layer: Layer, start: int, block: NDArray[np.float32]) -> None:  # noqa: B027 - some need no block
        """Take a block [neurons, instances] of activations, from neuron `start` on; blocks come in order.

        Raises NonFiniteError if an activation is NaN or infinite.
        """

    def finish(self, layer: Layer, shares: NDArray[np.float32] | None) -> None:
        """Stage the rows of a layer; `shares` [experts, instances] as `ForwardPass.shares` returns them."""
        keys = self.measurement.keys | {"stack": layer.stack, "layer": layer.layer}
        for name, rows in self._rows_of(layer, keys, shares).items():
            self._rows[name].append(rows)
        for number, part in self._parts.items():
            if layer == part[-1]:
                self.write_part(number)

    def write_part(self, number: int) -> None:
        """Stage the rows of a part."""
        model = self.measurement.model
        for name, tables in self._rows.items():
            self.job.write(name, pa.concat_tables(tables), part=number, model=model.name, revision=model.revision)
            tables.clear()

    @abstractmethod
    def _rows_of(self, layer: Layer, keys: Keys, shares: NDArray[np.float32] | None) -> dict[str, pa.Table]:
        """Return the rows of a layer, by table."""


class ScoreTables(Sink):
    """Every neuron's scores for every function: tables ``neurons``, ``top_instances`` and ``neuron_functions``."""

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

    def _rows_of(self, layer: Layer, keys: Keys, shares: NDArray[np.float32] | None) -> dict[str, pa.Table]:
        scores, measurement = Scores.concatenated(self._scores), self.measurement
        self._scores = []
        norms = weight_norms(measurement.model.module, layer)
        corpus, instance_id = measurement.corpus.name, measurement.tokens.instance_id
        return {
            "neurons": neuron_rows(keys, layer, scores, norms, shares),
            "top_instances": top_instance_rows(keys, scores, corpus=corpus, instance_id=instance_id),
            "neuron_functions": neuron_function_rows(keys, scores, measurement.labels.functions),
        }


class RoutingTables(Sink):
    """Scores of the share of tokens that each expert gets, as if it were a neuron's activation: table ``routing``."""

    def __init__(self, measurement: Measurement, job: Job) -> None:
        n_functions = len(measurement.labels.functions)
        n_experts = {layer: layer.n_native_experts for layer in measurement.layers if layer.n_native_experts}
        super().__init__(measurement, job, ("routing",), {layer: n * n_functions for layer, n in n_experts.items()})

    def _rows_of(self, layer: Layer, keys: Keys, shares: NDArray[np.float32] | None) -> dict[str, pa.Table]:
        assert shares is not None
        scores = _score(self.measurement, shares, n_top=0)
        return {"routing": routing_rows(keys, scores, self.measurement.labels.functions)}


class CoactivationTables(Sink):
    """The neurons that are active together, layer by layer: table ``coactivations`` of a job beside the run's."""

    phase = "pairing"

    def __init__(self, measurement: Measurement, coactivation: Coactivation, job: Job) -> None:
        n_rows = {layer: layer.n_neurons * coactivation.n_partners for layer in measurement.layers}
        super().__init__(measurement, job, ("coactivations",), n_rows)
        self._coactivation = coactivation
        self._n_highest = coactivation.n_highest(measurement.tokens.n_instances)
        self._bits = np.empty((0, 0), dtype=np.uint64)

    def add(self, layer: Layer, start: int, block: NDArray[np.float32]) -> None:
        """Keep on which instances a block of neurons is active."""
        bits = active_bits(block, n_highest=self._n_highest)
        if start == 0:
            self._bits = np.empty((layer.n_neurons, bits.shape[1]), dtype=np.uint64)
        self._bits[start : start + len(bits)] = bits

    def _rows_of(self, layer: Layer, keys: Keys, shares: NDArray[np.float32] | None) -> dict[str, pa.Table]:
        partners = closest_partners(self._bits, self._coactivation.n_partners, n_threads=torch.get_num_threads())
        return {"coactivations": coactivation_rows(keys, partners, self._coactivation.activity)}


def _score(measurement: Measurement, activations: NDArray[np.float32], *, n_top: int) -> Scores:
    return score(activations, measurement.labels, n_top=n_top, n_threads=torch.get_num_threads())
