"""The rows of the tables a run writes."""

import datetime
import platform
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
import transformers
from numpy.typing import NDArray

from ...schema.commits import neuronlake_version
from ...schema.conformance import conform
from ...schema.job import Job
from ..models.devices import device_name
from ..neurons.feed_forwards import Layer
from ..scores.coactivation import Partners
from ..scores.scoring import SCORE_NAMES, STATISTIC_NAMES, Scores
from .measurement import Measurement

Keys = Mapping[str, object]  # values of the key columns: of the run, stack and layer
Functions = Sequence[tuple[str, str]]  # family and function

_ROUTING_SCORES = {
    "share_positive": "mean_positive",
    "share_negative": "mean_negative",
    "ap": "ap",
    "ap_complement": "ap_complement",
    "auroc": "auroc",
}


def neuron_rows(
    keys: Keys,
    layer: Layer,
    scores: Scores,
    norms: tuple[torch.Tensor, torch.Tensor],  # of the input and the output weights [neurons]
    shares: NDArray[np.float32] | None,  # share of an instance's tokens that an expert got [experts, instances]
) -> pa.Table:
    """Return one row of ``neurons`` for each neuron of a layer."""
    neuron = np.arange(layer.n_neurons, dtype=np.int32)
    columns: dict[str, object] = {
        "neuron": neuron,
        "input_norm": norms[0].numpy(),
        "output_norm": norms[1].numpy(),
        **dict(zip(STATISTIC_NAMES, scores.statistics.T, strict=True)),
    }
    if layer.experts is not None and shares is not None:
        expert = neuron // layer.experts.width
        is_shared = neuron >= layer.experts.n_neurons  # neurons that every token passes belong to no routed expert
        n_sent_to = np.append(np.count_nonzero(shares, axis=1), 0)
        columns["native_expert"] = pa.array(expert, mask=is_shared)
        columns["n_routed"] = pa.array(n_sent_to[np.minimum(expert, len(shares))], mask=is_shared)
    return conform("neurons", columns, **keys)


def neuron_function_rows(keys: Keys, scores: Scores, functions: Functions) -> pa.Table:
    """Return one row of ``neuron_functions`` for each neuron of a layer and each function, sorted by both."""
    columns = _crossed_columns("neuron", len(scores.scores), functions)
    columns["p_value"] = scores.p_value.reshape(-1).astype(np.float32)
    for index, name in enumerate(SCORE_NAMES):
        # from_pandas turns the NaN of a half that lacks a class into NULL.
        columns[name] = pa.array(scores.scores[:, :, index].reshape(-1), from_pandas=True)
    return conform("neuron_functions", columns, **keys)


def routing_rows(keys: Keys, scores: Scores, functions: Functions) -> pa.Table:
    """Return one row of ``routing`` for each expert of a layer and each function: its share of tokens, scored."""
    columns = _crossed_columns("native_expert", len(scores.scores), functions)
    for column, name in _ROUTING_SCORES.items():
        columns[column] = scores.scores[:, :, SCORE_NAMES.index(name)].reshape(-1)
    return conform("routing", columns, **keys)


def top_instance_rows(keys: Keys, scores: Scores, *, corpus: str, instance_id: NDArray[np.int64]) -> pa.Table:
    """Return one row of ``top_instances`` for each neuron of a layer and each rank."""
    neuron, position = np.nonzero(scores.top_instance >= 0)
    columns = {
        "neuron": neuron,
        "rank": position + 1,
        "instance_id": instance_id[scores.top_instance[neuron, position]],
        "value": scores.top_value[neuron, position],
    }
    return conform("top_instances", columns, **keys, corpus=corpus)


def coactivation_rows(keys: Keys, partners: Partners, activity: str) -> pa.Table:
    """Return one row of ``coactivations`` for each neuron of a layer and each of its partners."""
    neuron, place = np.nonzero(partners.partner >= 0)
    partner = partners.partner[neuron, place]
    columns = {
        "neuron": neuron,
        "partner": partner,
        "n_both": partners.n_both[neuron, place],
        "n_active": partners.n_active[neuron],
        "n_active_partner": partners.n_active[partner],
    }
    return conform("coactivations", columns, **keys, activity=activity)


def write_run(measurement: Measurement, job: Job, started_at: datetime.datetime) -> None:
    """Stage the small tables of a run: its row, with the duration up to now, its layers, functions and weights."""
    model, settings, tokens, labels = measurement.model, measurement.settings, measurement.tokens, measurement.labels
    run = {
        "measurement": "measured",
        "weights_sha256": model.weights_sha256,
        "is_random_init": model.seed is not None,
        "corpus": measurement.corpus.name,
        "corpus_sha256": measurement.corpus.sha256,
        **{name: getattr(settings, name) for name in ("site", "pooling", "dtype", "storage", "max_tokens")},
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
    functions = [
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
        for (family, function), counts in zip(labels.functions, labels.function_counts(), strict=True)
    ]
    tensors = [
        {"tensor": tensor.name, "sha256": tensor.sha256, "n_values": tensor.n_values} for tensor in model.tensors
    ]
    tables: dict[str, Sequence[Mapping[str, object]]] = {
        "runs": [run],
        "layers": layers,
        "run_functions": functions,
        "weight_tensors": tensors,
    }
    for name, rows in tables.items():
        job.write(name, conform(name, rows, **measurement.keys), model=model.name, revision=model.revision)


def _crossed_columns(name: str, size: int, functions: Functions) -> dict[str, object]:
    """Return the keys of one row for each of `size` indices, called `name`, and each function."""
    columns: dict[str, object] = {name: np.repeat(np.arange(size, dtype=np.int32), len(functions))}
    for place, column in enumerate(("family", "function")):
        # Equal values get one code, as Parquet readers expect.
        distinct, codes = np.unique([names[place] for names in functions], return_inverse=True)
        repeated = pa.array(np.tile(codes.astype(np.int32), size))
        columns[column] = pa.DictionaryArray.from_arrays(repeated, pa.array(distinct.tolist(), pa.string()))
    return columns
