"""A run as it is made: the model runs over the texts, layers are scored and staged in parts, then all is committed.

What a killed attempt has done stays: the activations of texts that were run, and the parts that were staged.
Coactivations are a job beside the run, served by the same pass.
"""

import contextlib
import datetime
import platform
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
import transformers
from numpy.typing import NDArray

from ...errors import IngestError
from ...progress import Progress
from ...schema.commits import neuronlake_version
from ...schema.job import Job
from ..models.devices import device_name
from ..models.memory import explaining_lack_of_memory
from ..neurons.feed_forwards import Layer
from ..neurons.weights import weight_norms
from ..scores.scoring import NonFiniteError, Scores, score
from . import rows
from .coactivations import CoactivationTables
from .forward import ForwardPass
from .measurement import Measurement
from .settings import Coactivation
from .summary import IngestReport

__all__ = ["make_run", "measure", "write_run"]


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
    with contextlib.ExitStack() as stack:
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
    forward = ForwardPass(work, layers, job.folder("forward"), progress)
    with explaining_lack_of_memory(work.model.name, "batch_tokens", "memory_bytes"):
        try:
            forward.run(progress)
            n_neurons = sum(layer.n_neurons for layer in layers)
            if scored:  # compiled before the time of a neuron is taken
                _score(work, np.zeros((1, len(work.tokens.instance_id)), np.float32), n_top=0)
            progress.phase("scoring" if scored else "pairing", total=n_neurons, unit="neurons")
            found: list[tuple[Scores, NDArray[np.float32] | None]] = []
            for layer in layers:
                scores = []
                for start, block in forward.blocks(layer):
                    with _naming_what_is_not_finite(work, layer, start):
                        if layer in scored:
                            scores.append(_score(work, block, n_top=work.settings.n_top))
                        if coactivations and coactivations.lacks(layer):
                            coactivations.add(layer, start, block)
                    progress.advance(len(block))
                if scores:
                    found.append((_concatenated(scores), forward.shares(layer)))
                if run is not None and parts and layer is parts[0][1][-1]:
                    _write_part(work, run, *parts.pop(0), found)
                    found = []
                if coactivations and coactivations.lacks(layer):
                    coactivations.finish(layer)
        except KeyboardInterrupt as error:
            error.add_note(f"{forward.percent}% of the forward pass is kept; the same command goes on")
            raise
        except IngestError:  # values that are refused now would be refused again
            forward.discard()
            raise


def _is_staged(job: Job, part: int) -> bool:
    # The last table of a part to be written, so that it stands for all of them.
    return job.is_staged("neuron_functions", part)


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
    """Stage the tables of which a run has few rows: itself, its layers, functions and weights."""
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
        "device": device_name(model.module),
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


def _seconds_since(moment: datetime.datetime) -> float:
    return (datetime.datetime.now(datetime.UTC) - moment).total_seconds()
