"""Which tokens a neuron's weights write and read: the table ``neuron_vocabulary``, of a job beside a run's.

Output weights are multiplied with the unembedding, past the model's last norm, and input weights, those of the gate
where there is one, with the embeddings. No text is run.
"""

import time
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ...errors import IngestError
from ...progress import Progress
from ...schema.conformance import conform
from ...schema.job import Job
from ...schema.vocabulary import WeightKind
from ..models.embeddings import TokenVectors, embeddings, unembedding
from ..models.tokenizers import spelling
from ..neurons.feed_forwards import Layer
from ..neurons.weights import extreme_tokens, weight_vectors
from .measurement import Measurement
from .sinks import Sink

N_EITHER_END = 10
"""Tokens kept of the highest, and as many of the lowest, of a neuron and direction."""

_TIMED_NEURONS = 64


def add_vocabulary(measurement: Measurement, job: Job, run: Job | None, progress: Progress) -> None:
    """Stage the vocabulary of a run, of whose rows it needs none; what the model has none of is noted.

    Raises IngestError if it has none at all, or weights cannot be read.
    """
    tables = VocabularyTables(measurement, job)
    for notice in tables.notices:
        progress.note(notice)
    missing = [layer for layer in measurement.layers if tables.lacks(layer)]
    progress.phase("vocabulary", total=sum(layer.n_neurons for layer in missing), unit="neurons")
    for layer in missing:
        tables.finish(layer, None)
        progress.advance(layer.n_neurons)


def estimate_vocabulary(measurement: Measurement) -> float:
    """Return the wall time of a vocabulary in seconds, extrapolated from a few neurons."""
    n_neurons, seconds = sum(layer.n_neurons for layer in measurement.layers), 0.0
    for (_, direction), vectors in _directions(measurement)[0].items():
        weights = _weights(measurement, measurement.layers[-1], direction)[:_TIMED_NEURONS]
        start = time.perf_counter()
        extreme_tokens(vectors.through_norm(weights), vectors.weight, N_EITHER_END)
        seconds += (time.perf_counter() - start) / len(weights) * n_neurons
    return seconds


class VocabularyTables(Sink):
    """Rows of ``neuron_vocabulary``, which need no activations."""

    def __init__(self, measurement: Measurement, job: Job) -> None:
        n_rows = {layer: 4 * N_EITHER_END * layer.n_neurons for layer in measurement.layers}
        super().__init__(measurement, job, ("neuron_vocabulary",), n_rows)
        self._vectors, self.notices = _directions(measurement)
        if not self._vectors:
            raise IngestError(f"model {measurement.model.name} has no vocabulary: {'; '.join(self.notices)}")
        texts, is_piece = spelling(measurement.model.tokenizer, max(len(of.weight) for of in self._vectors.values()))
        self._known = [place for place, text in enumerate(texts) if text is not None]
        self._texts = pa.array([texts[place] for place in self._known])
        self._is_piece = np.array(is_piece)[self._known]

    def _rows_of(
        self, layer: Layer, keys: Mapping[str, object], shares: NDArray[np.float32] | None
    ) -> dict[str, pa.Table]:
        none = dict.fromkeys(("neuron", "rank", "token", "is_piece", "weight"), ())
        parts = [conform("neuron_vocabulary", none, **keys, direction="")]
        for (stack, direction), vectors in self._vectors.items():
            if stack != layer.stack:
                continue
            known = [place for place in self._known if place < len(vectors.weight)]
            tokens = vectors.weight if len(known) == len(vectors.weight) else vectors.weight[known]
            weights = vectors.through_norm(_weights(self.measurement, layer, direction))
            place, product = (of.numpy() for of in extreme_tokens(weights, tokens, N_EITHER_END))
            n_either = place.shape[1] // 2
            columns = {
                "neuron": np.repeat(np.arange(len(place)), 2 * n_either),
                "rank": np.tile([*range(1, n_either + 1), *range(-1, -n_either - 1, -1)], len(place)),
                "token": self._texts.take(pa.array(place.reshape(-1))),
                "is_piece": self._is_piece[place.reshape(-1)],
                "weight": product.reshape(-1),
            }
            parts.append(conform("neuron_vocabulary", columns, **keys, direction=direction))
        return {"neuron_vocabulary": pa.concat_tables(parts).sort_by("neuron")}


def _directions(measurement: Measurement) -> tuple[dict[tuple[str, str], TokenVectors], list[str]]:
    """Return the token vectors by stack and direction, and notes on which they are and which are missing."""
    model, notices = measurement.model, []
    vectors: dict[tuple[str, str], TokenVectors] = {}
    for stack in dict.fromkeys(layer.stack for layer in measurement.layers):
        layers = tuple(layer for layer in measurement.layers if layer.stack == stack)
        for direction, found in (("writes", unembedding(model, layers)), ("reads", embeddings(model, stack))):
            said = f"what a neuron of the {stack} {direction}"
            if isinstance(found, str):
                notices.append(f"{said} is not stored: {found}")
                continue
            n, n_features = found.weight.shape[1], _weights(measurement, layers[0], direction).shape[1]
            if n != n_features:
                notices.append(f"{said} is not stored: {found.name} has {n} numbers a token, its weights {n_features}")
                continue
            vectors[stack, direction] = found
            notices.append(f"{said}: its weights by {found.name}")
    return vectors, notices


def _weights(measurement: Measurement, layer: Layer, direction: str) -> torch.Tensor:
    """Return the weights of a direction: where a network is gated, what opens the gate is what a neuron reads."""
    is_gated = all(network.is_gated for network in layer.feed_forwards)
    kind: WeightKind = "output" if direction == "writes" else "gate" if is_gated else "input"
    return torch.from_numpy(weight_vectors(measurement.model.module, layer, kind))
