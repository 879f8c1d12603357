"""Arrow rows of the tables a run writes."""

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import torch
import transformers
from numpy.typing import NDArray

from ...schema.commits import neuronlake_version
from ...schema.conformance import arrow_schema
from ...schema.tables import table
from ..models.devices import device_name
from ..neurons.feed_forwards import Layer
from ..scores.coactivation import Partners
from ..scores.scoring import SCORE_NAMES, STATISTIC_NAMES, Scores
from .measurement import Measurement, RunKeys

__all__ = [
    "coactivation_rows",
    "neuron_function_rows",
    "neuron_rows",
    "records",
    "routing_rows",
    "run_tables",
    "top_instance_rows",
]

_ROUTING_SCORES = {
    "share_positive": "mean_positive",
    "share_negative": "mean_negative",
    "ap": "ap",
    "ap_complement": "ap_complement",
    "auroc": "auroc",
}


def records(name: str, keys: RunKeys, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return the rows of a small table, given as one mapping a row without the run's keys."""
    return pa.Table.from_pylist([asdict(keys) | dict(row) for row in rows], schema=arrow_schema(table(name)))


def neuron_rows(
    keys: RunKeys,
    layer: Layer,
    scores: Scores,
    norms: tuple[torch.Tensor, torch.Tensor],
    shares: NDArray[np.float32] | None,
) -> pa.Table:
    """Return one row of ``neurons`` for each neuron of a layer, given the norms of its input and output weights.

    `shares` are those of each instance's tokens that each expert got. [experts, instances]
    """
    n = layer.n_neurons
    native_expert, n_routed = pa.nulls(n, pa.int32()), pa.nulls(n, pa.int64())
    if layer.experts is not None and shares is not None:
        expert = np.arange(n) // layer.experts.width
        is_shared = (
            np.arange(n) >= layer.experts.n_neurons
        )  # neurons that every token passes belong to no routed expert
        n_sent_to = np.append(np.count_nonzero(shares, axis=1), 0)
        native_expert = pa.array(expert.astype(np.int32), mask=is_shared)
        n_routed = pa.array(n_sent_to[np.minimum(expert, len(shares))], mask=is_shared)
    columns: dict[str, pa.Array] = {
        "neuron": pa.array(np.arange(n, dtype=np.int32)),
        "native_expert": native_expert,
        "n_routed": n_routed,
        "input_norm": pa.array(norms[0].numpy()),
        "output_norm": pa.array(norms[1].numpy()),
    }
    for index, name in enumerate(STATISTIC_NAMES):
        columns[name] = pa.array(np.ascontiguousarray(scores.statistics[:, index]))
    return _rows("neurons", keys, layer, columns)


def neuron_function_rows(
    keys: RunKeys, layer: Layer, scores: Scores, functions: tuple[tuple[str, str], ...]
) -> pa.Table:
    """Return one row of ``neuron_functions`` for each neuron of a layer and each function, sorted by both."""
    columns = _crossed_columns("neuron", layer.n_neurons, functions)
    columns["p_value"] = pa.array(scores.p_value.reshape(-1).astype(np.float32))
    for index, name in enumerate(SCORE_NAMES):
        # from_pandas turns the NaN of a half that lacks a class into NULL.
        columns[name] = pa.array(scores.scores[:, :, index].reshape(-1), from_pandas=True)
    return _rows("neuron_functions", keys, layer, columns)


def routing_rows(keys: RunKeys, layer: Layer, scores: Scores, functions: tuple[tuple[str, str], ...]) -> pa.Table:
    """Return one row of ``routing`` for each expert of a layer and each function: its share of tokens, scored."""
    columns = _crossed_columns("native_expert", len(scores.scores), functions)
    for column, name in _ROUTING_SCORES.items():
        columns[column] = pa.array(scores.scores[:, :, SCORE_NAMES.index(name)].reshape(-1))
    return _rows("routing", keys, layer, columns)


def top_instance_rows(
    keys: RunKeys, layer: Layer, scores: Scores, *, corpus: str, instance_id: NDArray[np.int64]
) -> pa.Table:
    """Return one row of ``top_instances`` for each neuron of a layer and each rank."""
    neuron, position = np.nonzero(scores.top_instance >= 0)
    columns: dict[str, pa.Array] = {
        "neuron": pa.array(neuron.astype(np.int32)),
        "rank": pa.array((position + 1).astype(np.int16)),
        "corpus": _constant(corpus, len(neuron)),
        "instance_id": pa.array(instance_id[scores.top_instance[neuron, position]]),
        "value": pa.array(scores.top_value[neuron, position]),
    }
    return _rows("top_instances", keys, layer, columns)


def coactivation_rows(keys: RunKeys, layer: Layer, partners: Partners, activity: str) -> pa.Table:
    """Return one row of ``coactivations`` for each neuron of a layer and each of its partners."""
    neuron, place = np.nonzero(partners.partner >= 0)
    partner = partners.partner[neuron, place]
    columns: dict[str, pa.Array] = {
        "activity": _constant(activity, len(neuron)),
        "neuron": pa.array(neuron.astype(np.int32)),
        "partner": pa.array(partner),
        "n_both": pa.array(partners.n_both[neuron, place]),
        "n_active": pa.array(partners.n_active[neuron]),
        "n_active_partner": pa.array(partners.n_active[partner]),
    }
    return _rows("coactivations", keys, layer, columns)


def run_tables(measurement: Measurement, started_at: datetime.datetime) -> dict[str, pa.Table]:
    """Return the tables of which a run has few rows, by name: itself, its layers, functions and weights."""
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
        "source": None,
        "source_sha256": None,
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
    return {name: records(name, measurement.keys, rows) for name, rows in tables.items()}


def _rows(name: str, keys: RunKeys, layer: Layer, columns: Mapping[str, pa.Array]) -> pa.Table:
    """Add the keys of the run and the layer to the other columns, and put all in the order declared."""
    n = len(next(iter(columns.values())))
    columns = {
        "run_id": _constant(keys.run_id, n),
        "model": _constant(keys.model, n),
        "revision": _constant(keys.revision, n),
        "step": pa.repeat(pa.scalar(keys.step, pa.int64()), n),
        "stack": _constant(layer.stack, n),
        "layer": pa.repeat(pa.scalar(layer.layer, pa.int16()), n),
        **columns,
    }
    return pa.table({column: columns[column] for column in table(name).column_names})


def _crossed_columns(name: str, size: int, functions: tuple[tuple[str, str], ...]) -> dict[str, pa.Array]:
    """Return the keys of one row for each of `size` indices, called `name`, and each function."""
    which = np.tile(np.arange(len(functions), dtype=np.int32), size)
    return {
        name: pa.array(np.repeat(np.arange(size, dtype=np.int32), len(functions))),
        "family": _dictionary(which, [family for family, _ in functions]),
        "function": _dictionary(which, [function for _, function in functions]),
    }


def _constant(value: str, n: int) -> pa.Array:
    return _dictionary(np.zeros(n, dtype=np.int32), [value])


def _dictionary(codes: NDArray[np.int32], values: list[str]) -> pa.Array:
    """Encode strings by code; equal values get one code, as Parquet readers expect."""
    distinct = sorted(set(values))
    recode = np.array([distinct.index(value) for value in values], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(recode[codes]), pa.array(distinct))
