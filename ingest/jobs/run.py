"""A run, made or planned: the model reads the texts, layers are measured and staged in parts, all is committed.

What a killed attempt has done is used by the next: the activations of texts that were run, and the parts that were
staged. Coactivations are a job beside the run's, served by the same pass.
"""

import contextlib
import datetime
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import IngestError
from ...progress import Progress
from ...schema.job import Job
from ..models.devices import explaining_lack_of_memory
from ..scores.scoring import NonFiniteError
from .forward import ForwardPass, estimate_seconds
from .measurement import Measurement
from .reports import IngestPlan, IngestReport
from .rows import write_run
from .sinks import CoactivationTables, RoutingTables, ScoreTables, Sink

# Bytes of a row of each table on disk, measured (docs/benchmarks.md).
_ROW_BYTES = {"neuron_functions": 30, "neurons": 22, "top_instances": 6, "routing": 20, "coactivations": 5}


def make_run(measurement: Measurement, progress: Progress, started_at: datetime.datetime) -> IngestReport:
    """Measure and commit what the store lacks of a run and of the coactivations asked for.

    Raises IngestError if an activation is not finite or memory does not suffice, StoreError if the disk refuses.
    """
    summary, is_new, coactivation = measurement.summary(), measurement.is_new, measurement.coactivation
    jobs: list[Job] = []
    sinks: list[Sink] = []
    with contextlib.ExitStack() as stack:
        if is_new:
            job = stack.enter_context(measurement.store.job(measurement.run_id, kind="run"))
            jobs.append(job)
            sinks += [ScoreTables(measurement, job), RoutingTables(measurement, job)]
        if coactivation is not None and measurement.adds_coactivations:
            name = coactivation.job_name(measurement.run_id)
            job = stack.enter_context(measurement.store.job(name, kind="coactivation"))
            jobs.append(job)
            sinks.append(CoactivationTables(measurement, coactivation, job))
        if jobs:
            measure(measurement, sinks, jobs[0].folder("forward"), progress)
        if is_new:
            write_run(measurement, jobs[0], started_at)
        for job in jobs:
            job.commit()
    return IngestReport(
        **summary,
        duration_s=(datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
        activity=None if coactivation is None else coactivation.activity,
    )


def measure(measurement: Measurement, sinks: Sequence[Sink], folder: Path, progress: Progress) -> None:
    """Run the model over the layers that a sink lacks, and feed their activations to the sinks, layer by layer.

    Activations are kept in `folder` until they are measured. Errors are those of `make_run`.
    """
    lacking = {layer: [sink for sink in sinks if sink.lacks(layer)] for layer in measurement.layers}
    layers = [layer for layer in measurement.layers if lacking[layer]]
    if not layers:
        return
    forward = ForwardPass(measurement, layers, folder, progress)
    with explaining_lack_of_memory(measurement.model.name, "batch_tokens", "memory_bytes"):
        try:
            forward.run(progress)
            phase = next(sink.phase for sink in sinks if any(map(sink.lacks, layers)))
            progress.phase(phase, total=sum(layer.n_neurons for layer in layers), unit="neurons")
            for layer in layers:
                for start, block in forward.blocks(layer):
                    for sink in lacking[layer]:
                        sink.add(layer, start, block)
                    progress.advance(len(block))
                shares = forward.shares(layer)
                for sink in lacking[layer]:
                    sink.finish(layer, shares)
        except KeyboardInterrupt as error:
            error.add_note(f"{forward.percent}% of the forward pass is kept; the same command goes on")
            raise
        except IngestError as error:  # values that are refused now would be refused again
            shutil.rmtree(folder, ignore_errors=True)
            if not isinstance(error, NonFiniteError):
                raise
            raise IngestError(
                f"{measurement.model.name}: {measurement.settings.site} {error.value} of {layer.stack} layer "
                f"{layer.layer}, neuron {start + error.neuron}, on instance "
                f"{measurement.tokens.instance_id[error.instance]}"
            ) from error


def plan_run(measurement: Measurement) -> IngestPlan:
    """Return what `make_run` would write and how long it would take, from a few batches that are timed."""
    summary, layers, coactivation = measurement.summary(), measurement.layers, measurement.coactivation
    n_neurons, n_functions, n_instances = (summary[name] for name in ("n_neurons", "n_functions", "n_instances"))
    n_rows: dict[str, int] = {}
    if measurement.is_new or not measurement.adds_coactivations:
        n_rows |= {
            "neuron_functions": n_neurons * n_functions,
            "neurons": n_neurons,
            "top_instances": n_neurons * min(measurement.settings.n_top, n_instances - 1),
        }
        if measurement.router is not None:
            n_rows["routing"] = n_functions * sum(layer.n_native_experts for layer in layers)
    if coactivation is not None and measurement.adds_coactivations:
        n_rows["coactivations"] = sum(
            layer.n_neurons * min(coactivation.n_partners, layer.n_neurons - 1) for layer in layers
        )
    return IngestPlan(
        **summary,
        n_texts=measurement.tokens.n_texts,
        n_tokens=measurement.tokens.n_tokens,
        n_rows=n_rows,
        parquet_bytes=sum(_ROW_BYTES[table] * n for table, n in n_rows.items()),
        activation_bytes=n_neurons * n_instances * np.dtype(measurement.settings.storage).itemsize,
        forward_s=estimate_seconds(measurement),
    )
