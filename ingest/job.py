"""The ingestion job: load, tokenize, run and pool, score, commit.

One job measures one checkpoint. Layers are scored and staged in parts, so that a job that was killed and is
started again runs the model only for the parts that are still missing. Coactivations are a job beside it, served by
the same passes.
"""

import contextlib
import datetime
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import transformers
from numpy.typing import NDArray

from ..errors import IngestError
from ..schema.commits import neuronlake_version
from ..schema.job import Job
from ..schema.store import Store
from . import rows
from .coactivation import Coactivation, CoactivationTables
from .devices import naming_memory
from .feed_forwards import Layer
from .forward import run_texts
from .held_runs import HeldRuns
from .measurement import Measurement, load_requested, on_device, prepare_loaded
from .progress import Progress, SilentProgress
from .report import IngestReport
from .request import Request
from .scoring import NonFiniteError, Scores, score
from .settings import Resources, Settings
from .spool import Spool, Storage
from .stored_corpus import StoredCorpus
from .weights import weight_norms

__all__ = ["IngestReport", "ingest_model", "make_run"]


def ingest_model(
    model: str,
    *,
    corpus: str,
    store: str | os.PathLike[str],
    revision: str | None = None,
    random_init: int | None = None,
    name: str | None = None,
    settings: Settings | None = None,
    resources: Resources | None = None,
    coactivation: Coactivation | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Measure every neuron of a model on a corpus and store what it responds to.

    Measuring the same again changes nothing and is quick: the run's id is a digest of all that defines it. Where the
    store holds a run of the same files (their names, sizes and times of change), corpus and settings, nothing is even
    loaded; files altered while they keep size and time go unnoticed. Coactivations are no part of the run: asked for
    later, they are added to it, and the model runs for them alone.

    Parameters
    ----------
    model
        Hub id, folder or ``.gguf`` file of any transformers text model.
    corpus
        Name of a corpus in the store.
    store
        The store's folder.
    revision
        Branch, tag or commit on the hub, or subfolder of a local folder.
    random_init
        Seed of a random initialisation to measure in place of the checkpoint's weights.
    name
        Name to store the model under; the hub id or folder name if None.
    settings
        What defines the measurement; defaults of `Settings` if None.
    resources
        What the job may use; defaults of `Resources` if None.
    coactivation
        What co-activation of neurons to store beside the run; none if None.
    progress
        Where to report.

    Raises
    ------
    UnknownNameError
        If the store has no such corpus.
    IngestError
        If the model or the corpus cannot be measured as asked; the store is unchanged.
    StoreError
        If the store cannot be written.
    """
    started_at = datetime.datetime.now(datetime.UTC)
    progress, target = progress or SilentProgress(), Store(store)
    stored = StoredCorpus(target, corpus)
    held = HeldRuns(target)
    request = held.with_step(Request(model, corpus, revision, random_init, name, settings or Settings()))
    resources = on_device(resources or Resources(), request.stored_name)
    report = held.report(request, stored.sha256, coactivation)
    if report is not None:
        return report
    work = prepare_loaded(request, load_requested(request, stored, resources), stored, target, resources, progress)
    adds_coactivations = coactivation is not None and coactivation.adds_to(work)
    return make_run(work, coactivation, progress, adds_coactivations=adds_coactivations, started_at=started_at)


def make_run(
    work: Measurement,
    coactivation: Coactivation | None,
    progress: Progress,
    *,
    adds_coactivations: bool,
    started_at: datetime.datetime,
) -> IngestReport:
    """Measure and commit what the store does not hold yet.

    Parameters
    ----------
    work
        What to measure.
    coactivation
        What co-activation was asked for; None if none was.
    progress
        Where to report.
    adds_coactivations
        Whether it is still to be added.
    started_at
        When the job started.
    """
    is_new = work.store.commit(work.run_id) is None
    with naming_memory(work.model.name), contextlib.ExitStack() as stack:
        run = coactivations = None
        if is_new:
            run = stack.enter_context(work.store.job(work.run_id, kind="run"))
        if coactivation is not None and adds_coactivations:
            job = stack.enter_context(work.store.job(coactivation.job_name(work.run_id), kind="coactivation"))
            coactivations = CoactivationTables(work, coactivation, job)
        measure(work, run, progress, coactivations=coactivations)
        if run is not None:
            write_run(work, run, started_at)
            run.commit()
        if coactivations is not None:
            coactivations.job.commit()
    return IngestReport(
        run_id=work.run_id,
        model=work.model.name,
        revision=work.model.revision,
        is_new=is_new,
        **work.sizes(),
        n_truncated=work.tokens.n_truncated,
        n_dropped=work.tokens.n_dropped,
        duration_s=_seconds_since(started_at),
        activity=None if coactivation is None else coactivation.activity,
        adds_coactivations=adds_coactivations,
    )


def measure(
    work: Measurement, run: Job | None, progress: Progress, *, coactivations: CoactivationTables | None = None
) -> None:
    """Run the model once over all layers of which something is not staged yet, and stage it.

    Parameters
    ----------
    work
        What to measure.
    run
        The job to stage scores in; None if there are none to make.
    progress
        Where to report.
    coactivations
        What stages coactivations; None if there are none to make.
    """
    job = run or (coactivations.job if coactivations else None)
    parts = [] if run is None else [(n, part) for n, part in enumerate(work.parts()) if not _is_staged(run, n)]
    scored = [layer for _, part in parts for layer in part]
    layers = [layer for layer in work.layers if layer in scored or (coactivations and coactivations.lacks(layer))]
    if job is None or not layers:
        return
    n_neurons = sum(layer.n_neurons for layer in layers)
    with job.scratch() as folder:
        n_experts = sum(layer.n_native_experts for layer in layers) if scored else 0
        memory_bytes = work.chunk_bytes * n_neurons // (n_neurons + n_experts)
        activations = _spool(work, n_neurons, work.settings.storage, memory_bytes, folder / "activations")
        # Shares of tokens are kept as they are: small beside the activations, and sums of them must come out.
        rest = work.chunk_bytes - memory_bytes
        routing = _spool(work, n_experts, "float32", rest, folder / "routing") if n_experts else None
        run_texts(work, layers, activations, routing, progress)
        progress.phase("scoring" if scored else "pairing", total=n_neurons, unit="neurons")
        first_neuron = first_expert = 0
        found: list[tuple[Scores, NDArray[np.float32] | None]] = []
        for layer in layers:
            shares = None
            if routing is not None and layer.n_native_experts:
                last_expert = first_expert + layer.n_native_experts
                shares = routing.block(first_expert, last_expert)
                first_expert = last_expert
            scores = []
            for start, block in _blocks(work, layer, activations, first_neuron):
                with _naming_what_is_not_finite(work, layer, start):
                    if layer in scored:
                        scores.append(_score(work, block, n_top=work.settings.n_top))
                    if coactivations and coactivations.lacks(layer):
                        coactivations.add(layer, start, block)
                progress.advance(len(block))
            first_neuron += layer.n_neurons
            if scores:
                found.append((_concatenated(scores), shares))
            if run is not None and parts and layer is parts[0][1][-1]:
                _write_part(work, run, *parts.pop(0), found)
                found = []
            if coactivations and coactivations.lacks(layer):
                coactivations.finish(layer)


def _spool(work: Measurement, n_rows: int, storage: Storage, memory_bytes: int, folder: Path) -> Spool:
    folder.mkdir()
    n_instances = len(work.tokens.instance_id)
    return Spool(n_rows, n_instances, storage=storage, memory_bytes=memory_bytes, folder=folder)


def _is_staged(job: Job, part: int) -> bool:
    # The last table of a part to be written, so that it stands for all of them.
    return job.is_staged("neuron_functions", part)


def _blocks(work: Measurement, layer: Layer, spool: Spool, first: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield a layer's activations, some neurons at a time, with the index of the first of them."""
    size = work.block_neurons
    for start in range(0, layer.n_neurons, size):
        stop = min(start + size, layer.n_neurons)
        yield start, spool.block(first + start, first + stop)


@contextlib.contextmanager
def _naming_what_is_not_finite(work: Measurement, layer: Layer, start: int) -> Iterator[None]:
    try:
        yield
    except NonFiniteError as error:
        raise IngestError(
            f"{work.model.name}: {work.settings.site} {error.value} of {layer.stack} layer {layer.layer}, neuron "
            f"{start + error.neuron}, on instance {work.tokens.instance_id[error.instance]}"
        ) from error


def _concatenated(blocks: Sequence[Scores]) -> Scores:
    return Scores(*(np.concatenate(arrays) for arrays in zip(*map(_arrays, blocks), strict=True)))


def _score(work: Measurement, activations: NDArray[np.float32], *, n_top: int) -> Scores:
    return score(activations, work.labels, n_top=n_top, n_threads=torch.get_num_threads())


def _arrays(scores: Scores) -> tuple[NDArray, ...]:  # type: ignore[type-arg]
    return scores.scores, scores.p_value, scores.statistics, scores.top_instance, scores.top_value


def _write_part(
    work: Measurement,
    job: Job,
    number: int,
    part: Sequence[Layer],
    found: Sequence[tuple[Scores, NDArray[np.float32] | None]],
) -> None:
    """Write the rows of some layers, from their neurons' scores and the shares of tokens their experts got."""
    keys, model, functions = work.keys, work.model, work.labels.functions
    tables: dict[str, list[pa.Table]] = {"routing": [], "neurons": [], "top_instances": [], "neuron_functions": []}
    for layer, (scores, shares) in zip(part, found, strict=True):
        if shares is not None:
            tables["routing"].append(rows.routing_rows(keys, layer, _score(work, shares, n_top=0), functions))
        tables["neurons"].append(rows.neuron_rows(keys, layer, scores, weight_norms(model.module, layer), shares))
        tables["top_instances"].append(
            rows.top_instance_rows(keys, layer, scores, corpus=work.corpus.name, instance_id=work.tokens.instance_id)
        )
        tables["neuron_functions"].append(rows.neuron_function_rows(keys, layer, scores, functions))
    for name, each in tables.items():
        if each:
            job.write(name, pa.concat_tables(each), part=number, model=model.name, revision=model.revision)


def write_run(work: Measurement, job: Job, started_at: datetime.datetime) -> None:
    keys, model, settings = work.keys, work.model, work.settings
    run: dict[str, object] = {
        "measurement": "measured",
        "weights_sha256": model.weights_sha256,
        "is_random_init": model.seed is not None,
        "corpus": work.corpus.name,
        "corpus_sha256": work.corpus.sha256,
        "site": settings.site,
        "pooling": settings.pooling,
        "router": work.router,
        "dtype": settings.dtype,
        "storage": settings.storage,
        "max_tokens": settings.max_tokens,
        "layers": None if settings.layers is None else ",".join(map(str, settings.layers)),
        "n_texts": work.tokens.n_texts,
        "n_instances": len(work.tokens.instance_id),
        "n_tokens": work.tokens.n_tokens,
        "n_truncated": work.tokens.n_truncated,
        "n_dropped": work.tokens.n_dropped,
        "seed": model.seed,
        "device": _device_name(model.module),
        "neuronlake_version": neuronlake_version(),
        "torch_version": str(torch.__version__),
        "transformers_version": transformers.__version__,
        "python_version": platform.python_version(),
        "source": None,
        "source_sha256": None,
        "request_id": work.request_id,
        "started_at": started_at,
        "duration_s": _seconds_since(started_at),
    }
    layers: list[dict[str, object]] = [
        {
            "stack": layer.stack,
            "layer": layer.layer,
            "n_neurons": layer.n_neurons,
            "n_native_experts": layer.n_native_experts or None,
            "activation_function": layer.feed_forwards[0].activation_function,
            "is_gated": layer.feed_forwards[0].is_gated,
            "module_path": ", ".join(each.path for each in layer.feed_forwards),
        }
        for layer in work.layers
    ]
    functions: list[dict[str, object]] = [
        {
            "family": family,
            "function": function,
            "n_positive": counts.n_positive,
            "n_negative": counts.n_negative,
            "prevalence": counts.n_positive / (counts.n_positive + counts.n_negative),
            "n_positive_half_a": counts.n_positive_half[0],
            "n_negative_half_a": counts.n_negative_half[0],
            "n_positive_half_b": counts.n_positive_half[1],
            "n_negative_half_b": counts.n_negative_half[1],
        }
        for (family, function), counts in zip(work.labels.functions, work.labels.function_counts(), strict=True)
    ]
    tensors: list[dict[str, object]] = [
        {"tensor": each.name, "sha256": each.sha256, "n_values": each.n_values} for each in model.tensors
    ]
    tables = {"runs": [run], "layers": layers, "run_functions": functions, "weight_tensors": tensors}
    for name, each in tables.items():
        job.write(name, rows.records(name, keys, each), model=model.name, revision=model.revision)


def _device_name(module: torch.nn.Module) -> str:
    devices = sorted({parameter.device for parameter in module.parameters()}, key=str)
    return ", ".join(torch.cuda.get_device_name(device) if device.type == "cuda" else str(device) for device in devices)


def _seconds_since(moment: datetime.datetime) -> float:
    return (datetime.datetime.now(datetime.UTC) - moment).total_seconds()
