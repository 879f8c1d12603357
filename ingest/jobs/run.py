"""A run, made: the model reads the texts, layers are measured and staged in parts, all is committed.

What a killed attempt has done is used by the next: the activations of texts that were run, and the parts that were
staged. Coactivations are a job beside the run's, served by the same pass.
"""

import contextlib
import dataclasses
import datetime
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from pathlib import Path

import torch
import transformers

from ...errors import AlreadyCommittedError, IngestError
from ...progress import Progress
from ...schema.commits import neuronlake_version
from ...schema.job import Job
from ...schema.store import Store
from ...schema.vocabulary import Addition, JobKind
from ..corpora.labels import LabelIndex
from ..models.devices import device_name, explaining_lack_of_memory
from ..neurons.feed_forwards import Layer
from ..scores.best import HALVES
from ..scores.scoring import NonFiniteError
from .additions.highlights import add_highlights
from .additions.vocabulary import add_vocabulary
from .forward import ForwardPass, kept_layers
from .measurement import FORWARD, Measurement
from .reports import IngestReport
from .settings import Controls
from .sinks import CoactivationTables, ControlTables, RoutingTables, Scorer, ScoreTables, Sink

_Add = Callable[[Measurement, Job, Job | None, Progress], None]
_ADD: Mapping[Addition, _Add] = {"highlights": add_highlights, "vocabulary": add_vocabulary}


def make_run(
    measurement: Measurement,
    progress: Progress,
    started_at: datetime.datetime,
    *,
    finish: Callable[[Job], object] = methodcaller("commit"),
) -> IngestReport:
    """Measure and commit what the store lacks of a run, and of what is asked for beside it.

    Jobs whose tables are staged are given to `finish`: those of the measurement together, then each addition.
    """
    with contextlib.ExitStack() as stack:
        store = measurement.request.corpus.store
        try:
            jobs, sinks = open_jobs(measurement, store, stack)
        except AlreadyCommittedError:  # another process was faster since this was prepared: what is still lacking?
            stack.close()
            return make_run(measurement.renewed(), progress, started_at, finish=finish)
        summary, coactivation = measurement.summary(), measurement.request.coactivation
        if jobs:
            measure(measurement, sinks, jobs[0].folder(FORWARD), progress)
        if summary["is_new"]:
            write_run(measurement, jobs[0], started_at)
        for job in jobs:
            finish(job)
        added, refused = [], []
        for addition in summary["additions"]:  # one that cannot be made keeps none of the others from being made
            try:
                with contextlib.suppress(AlreadyCommittedError):
                    job = stack.enter_context(store.job(f"{addition}-{measurement.run_id}", kind=addition))
                    _ADD[addition](measurement, job, jobs[0] if summary["is_new"] else None, progress)
                    finish(job)
                    added.append(addition)
            except IngestError as error:
                refused.append(error)
        if refused:
            raise IngestError("; ".join(map(str, refused))) from refused[0]
    duration_s = (datetime.datetime.now(datetime.UTC) - started_at).total_seconds()
    activity = None if coactivation is None else coactivation.activity
    return IngestReport(**summary | {"additions": tuple(added)}, duration_s=duration_s, activity=activity)


def open_jobs(measurement: Measurement, store: Store, stack: contextlib.ExitStack) -> tuple[list[Job], list[Sink]]:
    """Start the jobs in a store that make what is lacking, that of the run first; return them and their sinks."""
    is_new, coactivation = measurement.is_new, measurement.request.coactivation
    jobs: list[Job] = []
    sinks: list[Sink] = []
    scorer = Scorer(measurement, with_functions=is_new)

    def begin(name: str, kind: JobKind) -> Job:
        jobs.append(stack.enter_context(store.job(name, kind=kind)))
        return jobs[-1]

    if is_new:
        job = begin(measurement.run_id, "run")
        sinks += [ScoreTables(measurement, job, scorer), RoutingTables(measurement, job)]
    for control, _ in measurement.controls:
        job = begin(Controls.job_name(measurement.run_id, control.control, control.draw), "controls")
        sinks.append(ControlTables(measurement, job, scorer, control))
        positive, evaluated = control.labels.counts()[:, 0].T
        rows = _named(control.labels) | {"n_positive": positive, "n_negative": evaluated - positive}
        of_draw = {name: getattr(control, name) for name in ("control", "draw", "n_kept")}
        measurement.write(job, "control_functions", rows, **of_draw)
    if coactivation is not None and measurement.adds_coactivations:
        job = begin(coactivation.job_name(measurement.run_id), "coactivation")
        sinks.append(CoactivationTables(measurement, coactivation, job))
    return jobs, sinks


def measure(measurement: Measurement, sinks: Sequence[Sink], folder: Path, progress: Progress) -> None:
    """Run the model over the layers that a sink lacks, and feed their activations to the sinks, layer by layer.

    Activations are kept in `folder` until they are measured; where the disk does not hold those of all layers, the
    model runs for some after the others: first for those whose activations an earlier attempt left.
    """
    lacking = {layer: [sink for sink in sinks if sink.lacks(layer)] for layer in measurement.layers}
    missing = [layer for layer in measurement.layers if lacking[layer]]
    kept = kept_layers(measurement, missing, folder, progress) if missing else ()
    begun = [layer for layer in missing if layer in kept]
    passes = [begun, *measurement.passes([layer for layer in missing if layer not in kept], folder)]
    for sink in sinks:
        sink.keep_within(passes)
    for layers in filter(None, passes):
        of_pass = kept if layers is begun else layers
        _measure_layers(layers, lacking, ForwardPass(measurement, of_pass, folder), progress)


def _measure_layers(
    layers: Sequence[Layer], lacking: Mapping[Layer, Sequence[Sink]], forward: ForwardPass, progress: Progress
) -> None:
    """Measure layers in one pass over the texts; `lacking` are the sinks that lack each."""
    measurement = forward.measurement
    with explaining_lack_of_memory(measurement.model.name, "batch_tokens", "memory_bytes"):
        try:
            forward.run(progress)
            progress.phase(lacking[layers[0]][0].phase, total=sum(layer.n_neurons for layer in layers), unit="neurons")
            for layer in layers:
                for start, block in forward.blocks(layer):
                    for sink in lacking[layer]:
                        sink.add(layer, start, block)
                    progress.advance(len(block))
                shares = forward.shares(layer)
                for sink in lacking[layer]:
                    sink.finish(layer, shares)
            forward.remove()
        except KeyboardInterrupt as error:
            error.add_note(f"{forward.percent}% of the forward pass is kept; the same command goes on")
            raise
        except IngestError as error:  # values that are refused now would be refused again
            shutil.rmtree(forward.folder, ignore_errors=True)
            if not isinstance(error, NonFiniteError):
                raise
            value = f"{measurement.settings.site} {error.value} of {layer.stack} layer {layer.layer}"
            instance = measurement.tokens.instance_id[error.instance]
            where = f"neuron {start + error.neuron}, on instance {instance}"
            raise IngestError(f"{measurement.model.name}: {value}, {where}") from error


def write_run(measurement: Measurement, job: Job, started_at: datetime.datetime) -> None:
    """Stage the small tables of a run: its row, with the duration up to now, its layers, functions and weights."""
    model, settings, tokens = measurement.model, measurement.settings, measurement.tokens
    labels, clusters = measurement.labels, measurement.clusters
    run = {
        "measurement": "measured",
        "weights_sha256": model.weights_sha256,
        "is_random_init": model.seed is not None,
        "corpus": measurement.request.corpus.name,
        "corpus_sha256": measurement.request.corpus.sha256,
        **{name: value for name, value in dataclasses.asdict(settings).items() if name not in ("n_top", "tokenizer")},
        "router": measurement.router,
        "layers": None if settings.layers is None else ",".join(map(str, settings.layers)),
        **{name: getattr(tokens, name) for name in ("n_texts", "n_instances", "n_tokens", "n_truncated", "n_dropped")},
        "seed": model.seed,
        "device": device_name(model.module),
        "neuronlake_version": neuronlake_version(),
        "torch_version": str(torch.__version__),
        "transformers_version": transformers.__version__,
        "python_version": platform.python_version(),
        "request_id": measurement.request_id,
        "started_at": started_at,
        "duration_s": (datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
    }
    layers = [
        {
            "stack": layer.stack,
            "layer": layer.layer,
            "n_neurons": layer.n_neurons,
            "n_native_experts": layer.n_native_experts or None,
            "activation_function": layer.feed_forwards[0].activation_function,
            "is_gated": layer.feed_forwards[0].is_gated,
            "module_path": ", ".join(network.path for network in layer.feed_forwards),
        }
        for layer in measurement.layers
    ]
    positive, evaluated = labels.counts().T  # [3, functions]
    functions = {
        **_named(labels),
        "prevalence": positive[0] / evaluated[0],
        **{f"n_positive{half}": n for half, n in zip(HALVES, positive, strict=True)},
        **{f"n_negative{half}": n for half, n in zip(HALVES, evaluated - positive, strict=True)},
        **{f"{name}_pairs": pairs for name, pairs in zip(clusters.names, clusters.pairs.T, strict=True)},
        **{f"n_{name}_clusters": n for name, n in zip(clusters.names, clusters.n_clusters.T, strict=True)},
    }
    measurement.write(job, "runs", [run])
    measurement.write(job, "layers", layers)
    measurement.write(job, "run_functions", functions)
    measurement.write(job, "weight_tensors", [dataclasses.asdict(tensor) for tensor in model.tensors])


def _named(labels: LabelIndex) -> dict[str, object]:
    return dict(zip(("family", "function"), zip(*labels.functions, strict=True), strict=True))
