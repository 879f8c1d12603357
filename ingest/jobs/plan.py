"""What a run would take, predicted: a few batches are run, and one layer is measured in a folder that is then removed.

Rows follow from what is asked. Bytes, and seconds of scoring, come of the layer, whose activations are drawn from those
of the batches; seconds of the forward pass come of batches of several lengths; memory is what all this took.
"""

import contextlib
import dataclasses
import datetime
import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...schema import parquet
from ...schema.commits import neuronlake_version
from ...schema.parquet import FEWEST_ROWS
from ...schema.store import Store
from ...schema.tables import table
from ...schema.vocabulary import Addition
from ..neurons.feed_forwards import Layer
from .additions.highlights import N_NEURONS, N_TEXTS, N_TOKENS
from .additions.vocabulary import N_EITHER_END, estimate_vocabulary
from .forward import Sample, sample_pass
from .measurement import Measurement
from .reports import IngestPlan
from .run import open_jobs, write_run
from .sinks import PART_ROWS, Scorer

_SMALL = {"runs", "layers", "run_functions", "weight_tensors", "control_functions"}  # tables that a run has once
# Bytes of a row of an addition on disk, measured (docs/benchmarks.md).
_ADDED_BYTES = {"top_tokens": 9, "neuron_vocabulary": 6}
_BLOCK = 512  # neurons drawn at once


@dataclass(frozen=True, slots=True)
class _Written:
    """What a table takes on disk and in memory, as the rows of one layer show."""

    n_rows: int  # of the layer
    file_bytes: int  # of a file without rows
    first_bytes: int  # of the first layer in a group of rows
    next_bytes: int  # of another in the group
    arrow_bytes: int  # of the layer's rows in memory

    def size(self, n_rows: int) -> float:
        """Return the bytes of so many rows."""
        n_layers = n_rows / self.n_rows
        n_groups = math.ceil(n_layers / math.ceil(FEWEST_ROWS / self.n_rows))
        n_parts = math.ceil(n_rows / PART_ROWS)
        return n_parts * self.file_bytes + n_groups * self.first_bytes + (n_layers - n_groups) * self.next_bytes


def plan_run(measurement: Measurement, *, prepared_s: float) -> IngestPlan:
    """Return what `run.make_run` would write and take, of which preparing took `prepared_s` CPU seconds."""
    summary, value_bytes = measurement.summary(), np.dtype(measurement.settings.storage).itemsize
    n_neurons, n_instances = summary["n_neurons"], summary["n_instances"]
    passes = measurement.passes(measurement.layers) if measurement.has_pass else []
    most_neurons = max((sum(layer.n_neurons for layer in layers) for layers in passes), default=0)
    layer = measurement.layers[len(measurement.layers) // 2]
    n_rows, sample, factor = _n_rows(measurement), sample_pass(measurement, layer), n_neurons / layer.n_neurons
    memory_bytes = measurement.request.resources.memory_bytes
    section_bytes = min(memory_bytes // 4, -(-n_instances // 100) * n_neurons * value_bytes)
    forward_bytes = _most_memory() + section_bytes
    tables, small_bytes, (cpu_s, wall_s) = _rehearse(measurement, layer, sample)
    controls_s = wall_s if measurement.controls else 0.0
    if measurement.controls and measurement.is_new:
        *_, (_, bare_s) = _rehearse(dataclasses.replace(measurement, controls=()), layer, sample)
        controls_s = max(0.0, controls_s - bare_s)
    # Rows of a part are in memory; those of a layer are counted already.
    part_bytes = sum(
        written.arrow_bytes * max(0.0, min(factor, PART_ROWS / max(1, written.n_rows)) - 1)
        for written in tables.values()
    )
    parquet_bytes = small_bytes + sum(written.size(n_rows[name]) for name, written in tables.items())
    additions_s = _additions_s(measurement, sample)
    n_passes = len(passes) + sum(additions_s.values()) / sample.wall_s  # what additions take counts in passes
    return IngestPlan(
        **summary,
        n_texts=measurement.tokens.n_texts,
        n_tokens=measurement.tokens.n_tokens,
        n_rows=n_rows,
        parquet_bytes=round(parquet_bytes + sum(size * n_rows.get(name, 0) for name, size in _ADDED_BYTES.items())),
        activation_bytes=most_neurons * n_instances * value_bytes,
        memory_bytes=max(forward_bytes, _most_memory() + section_bytes + round(part_bytes)),
        forward_s=len(passes) * sample.wall_s,
        scoring_s=wall_s,
        controls_s=controls_s,
        cpu_s=prepared_s + cpu_s + n_passes * sample.cpu_s,
        additions_s=additions_s,
    )


def _n_rows(measurement: Measurement) -> dict[str, int]:
    """Return the rows that a run has, or that are added to it, by table."""
    summary, layers, coactivation = measurement.summary(), measurement.layers, measurement.request.coactivation
    n_neurons, n_functions, n_controls = (summary[name] for name in ("n_neurons", "n_functions", "n_controls"))
    n_rows: dict[str, int] = {}
    n_best = n_neurons * len({family for family, _ in measurement.labels.functions})
    n_tops = sum(6 * n_functions * max(1, layer.n_neurons // 100) for layer in layers)
    if measurement.is_new or not (measurement.has_pass or summary["additions"]):
        n_rows |= {
            "neuron_functions": n_neurons * n_functions,
            "neurons": n_neurons,
            "top_instances": n_neurons * min(measurement.settings.n_top, summary["n_instances"] - 1),
            "neuron_best": n_best,
            "function_top_neurons": n_tops,
            "runs": 1,
            "layers": len(layers),
            "run_functions": n_functions,
            "weight_tensors": len(measurement.model.tensors),
        }
        if measurement.router is not None:
            n_rows["routing"] = n_functions * sum(layer.n_native_experts for layer in layers)
    if coactivation is not None and measurement.adds_coactivations:
        n_partners = [min(coactivation.n_partners, layer.n_neurons - 1) for layer in layers]
        n_rows["coactivations"] = sum(layer.n_neurons * n for layer, n in zip(layers, n_partners, strict=True))
    if n_controls:
        of_draw = {"control_best": n_best, "control_top_neurons": n_tops, "control_functions": n_functions}
        n_rows |= {name: n_controls * n for name, n in of_draw.items()}
    if "highlights" in summary["additions"]:
        n_rows["top_tokens"] = N_TOKENS * _n_highlighted(measurement)
    if "vocabulary" in summary["additions"]:
        n_rows["neuron_vocabulary"] = 4 * N_EITHER_END * n_neurons
    return n_rows


def _n_highlighted(measurement: Measurement) -> int:
    """Return how many texts of neurons and functions are highlighted, at most."""
    n_neurons = len(measurement.labels.functions) * (N_NEURONS + len(measurement.layers))
    return n_neurons * min(measurement.settings.n_top, 2 * N_TEXTS)


def _additions_s(measurement: Measurement, sample: Sample) -> dict[Addition, float]:
    """Return the wall time of each addition that is lacking, at most."""
    seconds: dict[Addition, float] = {}
    if "highlights" in measurement.additions:
        share = _n_highlighted(measurement) / measurement.tokens.n_texts
        seconds["highlights"] = sample.wall_s * min(1, share)
    if "vocabulary" in measurement.additions:
        seconds["vocabulary"] = estimate_vocabulary(measurement)
    return seconds


def _rehearse(
    measurement: Measurement, layer: Layer, sample: Sample
) -> tuple[dict[str, _Written], int, tuple[float, float]]:
    """Measure one layer on activations drawn from a sample, in a store of its own.

    Return what tables say of the run, bytes of those it has once, seconds of CPU and clock that all layers take.
    """
    started = _now()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        store = Store(Path(folder) / "store")
        drawn = _draw(measurement, sample)
        if measurement.is_new or measurement.controls:  # compiles kernels, and draws tables of nulls
            warm_up = Scorer(measurement, with_functions=measurement.is_new)
            warm_up.block(layer, 0, next(_blocks(sample.pooled, drawn))[1][:1])
        jobs, sinks = open_jobs(dataclasses.replace(measurement, layers=(layer,)), store, stack)
        sinks = [sink for sink in sinks if sink.lacks(layer)]
        seconds = _now() - started
        factor = sum(each.n_neurons for each in measurement.layers) / layer.n_neurons
        for start, block in _blocks(sample.pooled, drawn):
            started = _now()
            for sink in sinks:
                sink.add(layer, start, block)
            seconds += factor * (_now() - started)
        shares = None if sample.routed is None else np.ascontiguousarray(sample.routed[drawn].T)
        started = _now()
        for sink in sinks:
            sink.finish(layer, shares)
        cpu_s, wall_s = (seconds + factor * (_now() - started)).tolist()
        if measurement.is_new:
            write_run(measurement, jobs[0], datetime.datetime.now(datetime.UTC))
        files = {file: file.relative_to(store.staging).parts[1] for file in store.staging.rglob("*.parquet")}
        tables = {
            name: _written(name, file)
            for file, name in files.items()
            if name not in _SMALL and pq.read_metadata(file).num_rows
        }
        small_bytes = sum(file.stat().st_size for file, name in files.items() if name in _SMALL)
        return tables, small_bytes, (cpu_s, wall_s)


def _now() -> NDArray[np.float64]:
    """Return the seconds of CPU so far and of the clock."""
    return np.array([time.process_time(), time.perf_counter()])


def _written(name: str, file: Path) -> _Written:
    """Return what the rows of a layer in a file say of their table."""
    rows, declared = pq.read_table(file, partitioning=None), table(name)
    # Another layer: the same keys, and other values, as of rows in another order.
    shuffled = rows.take(np.random.default_rng(2).permutation(len(rows)))
    columns = [(rows if name in declared.grain else shuffled)[name] for name in rows.column_names]
    place = rows.column_names.index("layer")
    columns[place] = pc.add(rows["layer"], pa.scalar(1, rows["layer"].type))
    other = pa.Table.from_arrays(columns, schema=rows.schema)
    sizes = []
    for kept in (rows.slice(0, 0), rows, pa.concat_tables([rows, other])):
        metadata = {"job": file.stem, "neuronlake_version": neuronlake_version()}
        parquet.write(declared, kept, file.with_suffix(".copy"), metadata=metadata)
        sizes.append(file.with_suffix(".copy").stat().st_size)
    return _Written(len(rows), sizes[0], sizes[1] - sizes[0], sizes[2] - sizes[1], rows.nbytes)


def _draw(measurement: Measurement, sample: Sample) -> NDArray[np.int64]:
    """Return for each instance one of a sample, of the same labels where there is one, so that scores tell of them."""
    draw = np.random.default_rng(0)
    label_set = measurement.labels.packed()[0] >> 1  # [instances]
    drawn = draw.integers(len(sample.instances), size=len(label_set))
    order = np.argsort(label_set[sample.instances], kind="stable")
    sets, first, n_of_set = np.unique(label_set[sample.instances][order], return_index=True, return_counts=True)
    place = np.minimum(np.searchsorted(sets, label_set), len(sets) - 1)
    is_alike = sets[place] == label_set
    alike = order[first[place] + (draw.random(len(label_set)) * n_of_set[place]).astype(np.int64)]
    return np.where(is_alike, alike, drawn)


def _blocks(pooled: NDArray[np.float32], drawn: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield blocks of neurons, with their first, over instances drawn from some [instances, neurons], and smoothed."""
    draw = np.random.default_rng(1)
    width = pooled.std(axis=0) * len(pooled) ** -0.2  # as of a kernel density
    for start in range(0, pooled.shape[1], _BLOCK):
        part = slice(start, start + _BLOCK)
        block = np.ascontiguousarray(pooled[drawn, part].T)  # [neurons, instances]
        noise = draw.standard_normal(block.shape, np.float32) * width[part, None]
        yield start, np.where(block == 0, block, block + noise).astype(np.float32)


def _most_memory() -> int:
    """Return the most memory in bytes that this process has had so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
