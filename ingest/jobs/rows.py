"""Arrow rows of the tables a run writes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ...schema.conformance import arrow_schema
from ...schema.tables import table
from ..neurons.feed_forwards import Layer
from ..scores.scoring import SCORE_NAMES, STATISTIC_NAMES, Scores

__all__ = ["RunKeys", "neuron_function_rows", "neuron_rows", "records", "routing_rows", "top_instance_rows"]

_ROUTING_SCORES = {
    "share_positive": "mean_positive",
    "share_negative": "mean_negative",
    "ap": "ap",
    "ap_complement": "ap_complement",
    "auroc": "auroc",
}


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The columns that every table of a run begins with."""

    run_id: str
    model: str
    revision: str
    step: int | None


def records(name: str, keys: RunKeys, rows: list[dict[str, object]]) -> pa.Table:
    """Return rows of a small table, given as one mapping a row without the run's keys."""
    shared = {"run_id": keys.run_id, "model": keys.model, "revision": keys.revision, "step": keys.step}
    return pa.Table.from_pylist([shared | row for row in rows], schema=arrow_schema(table(name)))


def neuron_rows(
    keys: RunKeys,
    layer: Layer,
    scores: Scores,
    norms: tuple[torch.Tensor, torch.Tensor],
    shares: NDArray[np.float32] | None,
) -> pa.Table:
    """Return one row of ``neurons`` a neuron of a layer; `shares` are of the experts [experts, instances]."""
    n = layer.n_neurons
    native_expert, n_routed = pa.nulls(n, pa.int32()), pa.nulls(n, pa.int64())
    if layer.experts is not None and shares is not None:
        expert = np.arange(n) // layer.experts.width
        is_shared = np.arange(n) >= layer.experts.n_neurons  # what every token passes is of no routed expert
        n_sent_to = np.append(np.count_nonzero(shares, axis=1), 0)
        native_expert = pa.array(expert.astype(np.int32), mask=is_shared)
        n_routed = pa.array(n_sent_to[np.minimum(expert, len(shares))], mask=is_shared)
    columns: dict[str, pa.Array] = {
        **_layer_columns(layer, n),
        "neuron": pa.array(np.arange(n, dtype=np.int32)),
        "native_expert": native_expert,
        "n_routed": n_routed,
        "input_norm": pa.array(norms[0].numpy()),
        "output_norm": pa.array(norms[1].numpy()),
    }
    for index, name in enumerate(STATISTIC_NAMES):
        columns[name] = pa.array(np.ascontiguousarray(scores.statistics[:, index]))
    return _rows("neurons", keys, columns, n)


def neuron_function_rows(
    keys: RunKeys, layer: Layer, scores: Scores, functions: tuple[tuple[str, str], ...]
) -> pa.Table:
    """Return one row of ``neuron_functions`` a neuron and function of a layer, sorted by both."""
    n = layer.n_neurons * len(functions)
    columns: dict[str, pa.Array] = {
        **_layer_columns(layer, n),
        **_crossed_columns("neuron", layer.n_neurons, functions),
        "p_value": pa.array(scores.p_value.reshape(-1).astype(np.float32)),
    }
    for index, name in enumerate(SCORE_NAMES):
        # from_pandas turns the NaN of a half that lacks a class into NULL.
        columns[name] = pa.array(scores.scores[:, :, index].reshape(-1), from_pandas=True)
    return _rows("neuron_functions", keys, columns, n)


def routing_rows(keys: RunKeys, layer: Layer, scores: Scores, functions: tuple[tuple[str, str], ...]) -> pa.Table:
    """Return one row of ``routing`` an expert and function of a layer: its share of tokens, scored as a neuron."""
    n_experts = len(scores.scores)
    n = n_experts * len(functions)
    columns: dict[str, pa.Array] = {
        **_layer_columns(layer, n),
        **_crossed_columns("native_expert", n_experts, functions),
    }
    for column, name in _ROUTING_SCORES.items():
        columns[column] = pa.array(scores.scores[:, :, SCORE_NAMES.index(name)].reshape(-1))
    return _rows("routing", keys, columns, n)


def top_instance_rows(
    keys: RunKeys, layer: Layer, scores: Scores, *, corpus: str, instance_id: NDArray[np.int64]
) -> pa.Table:
    """Return one row of ``top_instances`` a neuron and rank of a layer."""
    neuron, position = np.nonzero(scores.top_instance >= 0)
    n = len(neuron)
    columns: dict[str, pa.Array] = {
        **_layer_columns(layer, n),
        "neuron": pa.array(neuron.astype(np.int32)),
        "rank": pa.array((position + 1).astype(np.int16)),
        "corpus": _constant(corpus, n),
        "instance_id": pa.array(instance_id[scores.top_instance[neuron, position]]),
        "value": pa.array(scores.top_value[neuron, position]),
    }
    return _rows("top_instances", keys, columns, n)


def _rows(name: str, keys: RunKeys, columns: Mapping[str, pa.Array], n: int) -> pa.Table:
    step = pa.nulls(n, pa.int64()) if keys.step is None else pa.array(np.full(n, keys.step, dtype=np.int64))
    shared = {
        "run_id": _constant(keys.run_id, n),
        "model": _constant(keys.model, n),
        "revision": _constant(keys.revision, n),
        "step": step,
    }
    every = shared | dict(columns)
    return pa.table({column: every[column] for column in table(name).column_names})


def _layer_columns(layer: Layer, n: int) -> dict[str, pa.Array]:
    return {"stack": _constant(layer.stack, n), "layer": pa.array(np.full(n, layer.layer, dtype=np.int16))}


def _crossed_columns(name: str, size: int, functions: tuple[tuple[str, str], ...]) -> dict[str, pa.Array]:
    """Return the columns of one row for each of `size` indices, called `name`, and each function, sorted by both."""
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
