"""Sinks: what takes the activations of a layer's neurons and makes rows of them (scores, routing, coactivations)."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ...schema.conformance import conform
from ...schema.job import Job
from ..corpora.control_tasks import ControlLabels
from ..corpora.labels import LabelIndex
from ..neurons.feed_forwards import Layer
from ..neurons.weights import weight_norms
from ..scores.best import SCORE_NAMES, Chance, Ranked
from ..scores.clusters import Clusters
from ..scores.coactivation import active_bits, closest_partners
from ..scores.device import DeviceWalk
from ..scores.scoring import STATISTIC_NAMES, Scores, compile_kernels, score
from .measurement import Measurement, grouped
from .settings import Coactivation

# Rows a part aims at: large enough for whole row groups, small enough to build in memory.
PART_ROWS = 2_000_000

_Keys = Mapping[str, object]  # values of the key columns: of the run, stack and layer
_Functions = Sequence[tuple[str, str]]  # family and function


class Sink(ABC):
    """Takes the activations of layers, one layer after the other, and stages tables made of them.

    For each layer that the sink `lacks`, `run.measure` calls `add` with every block of neurons, then `finish`. Tables
    are staged in parts of some layers each; a part that a killed attempt staged is not made again. The layers of a part
    that is not of one pass over the texts are parts of their own, numbered behind all others whatever the passes are.
    """

    phase = "scoring"
    tables: tuple[str, ...]

    def __init__(self, measurement: Measurement, job: Job, n_rows: Mapping[Layer, int]) -> None:
        """Begin; `n_rows` are those of each layer to measure, in the table that has most."""
        self.measurement, self.job = measurement, job
        job.drop_incomplete(*self.tables)  # whose layers this attempt may cut otherwise
        parts = grouped(n_rows, PART_ROWS)
        self._rows: dict[str, list[pa.Table]] = {name: [] for name in self.tables}
        self._own_number = {layer: len(n_rows) + place for place, layer in enumerate(n_rows)}
        self._parts = {number: part for number, part in enumerate(parts) if not self._is_staged(number)}
        self._split([part for part in parts if any(self._is_staged(self._own_number[layer]) for layer in part)])

    def keep_within(self, passes: Sequence[Sequence[Layer]]) -> None:
        """Let no part go beyond a pass, whose activations are deleted at its end."""
        self._split([part for part in self._parts.values() if not any(set(part) <= set(of) for of in passes)])

    def _split(self, parts: Sequence[list[Layer]]) -> None:
        """Make each layer of some parts a part of its own."""
        self._parts = {number: part for number, part in self._parts.items() if part not in parts} | {
            self._own_number[layer]: [layer]
            for layer in itertools.chain(*parts)
            if not self._is_staged(self._own_number[layer])
        }

    def _is_staged(self, number: int) -> bool:
        return all(self.job.is_staged(table, number) for table in self._rows)

    def lacks(self, layer: Layer) -> bool:
        """Return whether a layer is to be measured and not staged yet."""
        return any(layer in part for part in self._parts.values())

    def add(self, layer: Layer, start: int, block: NDArray[np.float32]) -> None:  # noqa: B027 - some need no block
        """Take a block [neurons, instances] of finite activations, from neuron `start` on; blocks come in order."""

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
    def _rows_of(self, layer: Layer, keys: _Keys, shares: NDArray[np.float32] | None) -> dict[str, pa.Table]:
        """Return the rows of a layer, by table."""


class _ScoredTables(Sink):
    """Tables made of scores for one set of functions: the run's own, or controls."""

    def __init__(
        self, measurement: Measurement, job: Job, scorer: "Scorer", control: ControlLabels | None = None
    ) -> None:
        self._control, self._scorer = control, scorer
        self._labels = control.labels if control else measurement.labels
        families = {family for family, _ in self._labels.functions}
        n_functions = len(self._labels.functions)
        a_neuron = max(len(families), 6 * n_functions // 100) if control else n_functions
        super().__init__(measurement, job, {layer: a_neuron * layer.n_neurons for layer in measurement.layers})
        self._chance = Chance.of(*self._labels.counts().T)
        self._scores: list[Scores] = []

    def add(self, layer: Layer, start: int, block: NDArray[np.float32]) -> None:
        self._scores.append(self._scorer.scores(self._control, layer, start, block))

    def _ranked(self) -> tuple[Scores, Ranked]:
        """Return the scores of a layer, and how they rank."""
        scores = Scores.concatenated(self._scores)
        self._scores = []
        p_value = scores.p_value.astype(np.float32)
        return scores, Ranked(self._labels.functions, scores.scores, p_value, self._chance)


class ScoreTables(_ScoredTables):
    """Every neuron's scores for every function, and what comes first by them."""

    tables = ("neurons", "top_instances", "neuron_best", "function_top_neurons", "neuron_functions")

    def _rows_of(self, layer: Layer, keys: _Keys, shares: NDArray[np.float32] | None) -> dict[str, pa.Table]:
        (scores, ranked), measurement = self._ranked(), self.measurement
        input_norm, output_norm = weight_norms(measurement.model.module, layer)
        neuron = np.arange(layer.n_neurons, dtype=np.int32)
        neurons: dict[str, object] = {"neuron": neuron}
        neurons |= {"input_norm": input_norm.numpy(), "output_norm": output_norm.numpy()}
        correlations = [f"{name}_correlation" for name in measurement.clusters.names]
        neurons |= zip(STATISTIC_NAMES, scores.statistics.T, strict=True)
        neurons |= zip(correlations, scores.correlation.T, strict=True)
        if layer.experts is not None and shares is not None:
            expert = neuron // layer.experts.width
            is_shared = neuron >= layer.experts.n_neurons  # neurons that every token passes belong to no routed expert
            n_sent_to = np.append(np.count_nonzero(shares, axis=1), 0)
            neurons["native_expert"] = pa.array(expert, mask=is_shared)
            neurons["n_routed"] = pa.array(n_sent_to[np.minimum(expert, len(shares))], mask=is_shared)
        top_neuron, position = np.nonzero(scores.top_instance >= 0)
        top_instances = {
            "neuron": top_neuron,
            "rank": position + 1,
            "instance_id": measurement.tokens.instance_id[scores.top_instance[top_neuron, position]],
            "value": scores.top_value[top_neuron, position],
        }
        return {
            "neurons": conform("neurons", neurons, **keys),
            "top_instances": conform("top_instances", top_instances, **keys, corpus=measurement.request.corpus.name),
            "neuron_best": conform("neuron_best", ranked.best(), **keys),
            "function_top_neurons": conform("function_top_neurons", ranked.top(), **keys),
            "neuron_functions": neuron_function_rows(keys, scores, measurement.labels.functions),
        }


class ControlTables(_ScoredTables):
    """What comes first by the scores for control functions, which are not kept: tables of a job beside the run's."""

    tables = ("control_best", "control_top_neurons")

    def _rows_of(self, layer: Layer, keys: _Keys, shares: NDArray[np.float32] | None) -> dict[str, pa.Table]:
        (_, ranked), control = self._ranked(), self._control
        assert control is not None
        keys = {**keys, "control": control.control, "draw": control.draw}
        return {
            "control_best": conform("control_best", ranked.best(), **keys),
            "control_top_neurons": conform("control_top_neurons", ranked.top(), **keys),
        }


class Scorer:
    """Scores blocks of neurons for the functions of a run and for its control functions, in one walk over instances."""

    def __init__(self, measurement: Measurement, *, with_functions: bool) -> None:
        sets: list[tuple[ControlLabels | None, LabelIndex, Clusters]]
        sets = [(None, measurement.labels, measurement.clusters)] if with_functions else []
        sets += [(control, control.labels, clusters) for control, clusters in measurement.controls]
        ends = np.cumsum([0, *(len(labels.functions) for _, labels, _ in sets)]).tolist()
        self._functions = {id(of): slice(*pair) for (of, *_), pair in zip(sets, itertools.pairwise(ends), strict=True)}
        if sets:
            self._labels = LabelIndex.joined([labels for _, labels, _ in sets])
            self._clusters = Clusters.joined([clusters for *_, clusters in sets])
            compile_kernels(self._labels, self._clusters)
            device = next(measurement.model.module.parameters()).device
            # On a CPU the compiled walk is several times as fast.
            self._walk = DeviceWalk(self._labels, device) if device.type == "cuda" else None
        self._n_top = measurement.settings.n_top
        self._scored: tuple[tuple[Layer, int], Scores] | None = None  # the block that was scored last

    def scores(self, of: ControlLabels | None, layer: Layer, start: int, block: NDArray[np.float32]) -> Scores:
        """Return the scores of a block of neurons for one set of functions, None for the run's own."""
        return self.block(layer, start, block).of_functions(self._functions[id(of)])

    def block(self, layer: Layer, start: int, block: NDArray[np.float32]) -> Scores:
        """Return the scores of a block of neurons for all functions."""
        if self._scored is None or self._scored[0] != (layer, start):
            threads = torch.get_num_threads()
            scores = score(block, self._labels, self._clusters, n_top=self._n_top, n_threads=threads, walk=self._walk)
            self._scored = (layer, start), scores.rounded()
        return self._scored[1]


class RoutingTables(Sink):
    """Scores of the share of tokens that each expert gets, as if it were a neuron's activation: table ``routing``."""

    tables = ("routing",)

    def __init__(self, measurement: Measurement, job: Job) -> None:
        n_experts = {layer: layer.n_native_experts for layer in measurement.layers if layer.n_native_experts}
        n_functions = len(measurement.labels.functions)
        super().__init__(measurement, job, {layer: n * n_functions for layer, n in n_experts.items()})

    def _rows_of(self, layer: Layer, keys: _Keys, shares: NDArray[np.float32] | None) -> dict[str, pa.Table]:
        assert shares is not None
        labels = self.measurement.labels
        scores = score(shares, labels, n_top=0, n_threads=torch.get_num_threads()).scores
        columns = _crossed_columns("native_expert", len(scores), labels.functions)
        for name in ("mean_positive", "mean_negative", "ap", "ap_complement", "auroc"):
            columns[name.replace("mean", "share")] = scores[:, :, SCORE_NAMES.index(name)].reshape(-1)
        return {"routing": conform("routing", columns, **keys)}


class CoactivationTables(Sink):
    """The neurons that are active together, layer by layer: table ``coactivations`` of a job beside the run's."""

    phase = "pairing"
    tables = ("coactivations",)

    def __init__(self, measurement: Measurement, coactivation: Coactivation, job: Job) -> None:
        n_rows = {layer: layer.n_neurons * coactivation.n_partners for layer in measurement.layers}
        super().__init__(measurement, job, n_rows)
        self._coactivation = coactivation
        self._n_highest = coactivation.n_highest(measurement.tokens.n_instances)
        self._bits = np.empty((0, 0), dtype=np.uint64)

    def add(self, layer: Layer, start: int, block: NDArray[np.float32]) -> None:
        """Keep on which instances a block of neurons is active."""
        bits = active_bits(block, n_highest=self._n_highest)
        if start == 0:
            self._bits = np.empty((layer.n_neurons, bits.shape[1]), dtype=np.uint64)
        self._bits[start : start + len(bits)] = bits

    def _rows_of(self, layer: Layer, keys: _Keys, shares: NDArray[np.float32] | None) -> dict[str, pa.Table]:
        partners = closest_partners(self._bits, self._coactivation.n_partners, n_threads=torch.get_num_threads())
        neuron, place = np.nonzero(partners.partner >= 0)
        partner = partners.partner[neuron, place]
        columns = {
            "neuron": neuron,
            "partner": partner,
            "n_both": partners.n_both[neuron, place],
            "n_active": partners.n_active[neuron],
            "n_active_partner": partners.n_active[partner],
        }
        return {"coactivations": conform("coactivations", columns, **keys, activity=self._coactivation.activity)}


def neuron_function_rows(keys: _Keys, scores: Scores, functions: _Functions) -> pa.Table:
    """Return one row of ``neuron_functions`` for each neuron of a layer and each function, sorted by both."""
    columns = _crossed_columns("neuron", len(scores.scores), functions)
    columns["p_value"] = scores.p_value.reshape(-1).astype(np.float32)
    for index, name in enumerate(SCORE_NAMES):
        # from_pandas turns the NaN of a half that lacks a class into NULL.
        columns[name] = pa.array(scores.scores[:, :, index].reshape(-1), from_pandas=True)
    return conform("neuron_functions", columns, **keys)


def _crossed_columns(name: str, size: int, functions: _Functions) -> dict[str, object]:
    """Return the keys of one row for each of `size` indices, called `name`, and each function."""
    columns: dict[str, object] = {name: np.repeat(np.arange(size, dtype=np.int32), len(functions))}
    for place, column in enumerate(("family", "function")):
        # Equal values get one code, as Parquet readers expect.
        distinct, codes = np.unique([names[place] for names in functions], return_inverse=True)
        repeated = pa.array(np.tile(codes.astype(np.int32), size))
        columns[column] = pa.DictionaryArray.from_arrays(repeated, pa.array(distinct.tolist(), pa.string()))
    return columns
