"""Which tokens a neuron's weights write and read: the table ``neuron_vocabulary``, of a job beside a run's.

Output weights are multiplied with the unembedding, past the model's last norm, and input weights, those of the gate
where there is one, with the embeddings. No text is run.
"""

import time

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
from ..neurons.vocabulary import extreme_tokens
from ..neurons.weights import weight_vectors
from .measurement import Measurement
from .sinks import Sink

N_EITHER_END = 10
"""Tokens kept of the highest, and as many of the lowest, of a neuron and direction."""

_TIMED_NEURONS = 64


def add_vocabulary(measurement: Measurement, progress: Progress) -> None:
    """Make and commit the vocabulary of a run that the store holds; what the model has none of is noted.

    Raises IngestError if it has none at all, or weights cannot be read.
    """
    with measurement.ingestion.store.job(f"vocabulary-{measurement.run_id}", kind="vocabulary") as job:
        tables = VocabularyTables(measurement, job)
        for notice in tables.notices:
            progress.note(notice)
        missing = [layer for layer in measurement.layers if tables.lacks(layer)]
        progress.phase("vocabulary", total=sum(layer.n_neurons for layer in missing), unit="neurons")
        for layer in missing:
            tables.finish(layer, None)
            progress.advance(layer.n_neurons)
        job.commit()


def estimate_vocabulary(measurement: Measurement) -> float:
    """Return the wall time of a vocabulary in seconds, extrapolated from a few neurons."""
    layers, seconds = measurement.layers, 0.0
    for direction, vectors in _directions(measurement, layers[0])[0].items():
        weights = torch.from_numpy(weight_vectors(measurement.model.module, layers[0], _kind(layers[0], direction)))
        start = time.perf_counter()
        extreme_tokens(vectors.through_norm(weights[:_TIMED_NEURONS]), vectors.weight, N_EITHER_END)
        seconds += (time.perf_counter() - start) / min(_TIMED_NEURONS, len(weights))
    return seconds * sum(layer.n_neurons for layer in layers)


class VocabularyTables(Sink):
    """Rows of ``neuron_vocabulary``, which need no activations."""

    def __init__(self, measurement: Measurement, job: Job) -> None:
        n_rows = {layer: 4 * N_EITHER_END * layer.n_neurons for layer in measurement.layers}
        super().__init__(measurement, job, ("neuron_vocabulary",), n_rows)
        self._vectors: dict[str, dict[str, TokenVectors]] = {}
        self.notices: list[str] = []
        for stack in dict.fromkeys(layer.stack for layer in measurement.layers):
            layer = next(layer for layer in measurement.layers if layer.stack == stack)
            self._vectors[stack], notices = _directions(measurement, layer)
            self.notices += notices
        if not any(self._vectors.values()):
            raise IngestError(f"model {measurement.model.name} has no vocabulary: {'; '.join(self.notices)}")
        n_tokens = max(len(each.weight) for of in self._vectors.values() for each in of.values())
        texts, is_piece = spelling(measurement.model.tokenizer, n_tokens)
        known = np.array([text is not None for text in texts])
        self._known = torch.from_numpy(np.flatnonzero(known))
        self._texts = pa.array([text for text in texts if text is not None])
        self._is_piece = np.array(is_piece)[known]

    def _rows_of(self, layer: Layer, keys: object, shares: NDArray[np.float32] | None) -> dict[str, pa.Table]:
        n = N_EITHER_END
        parts = []
        for direction, vectors in self._vectors[layer.stack].items():
            weights = torch.from_numpy(weight_vectors(self.measurement.model.module, layer, _kind(layer, direction)))
            known = self._known[self._known < len(vectors.weight)]
            tokens = (
                vectors.weight if len(known) == len(vectors.weight) else vectors.weight[known.to(vectors.weight.device)]
            )
            place, product = (of.numpy() for of in extreme_tokens(vectors.through_norm(weights), tokens, n))
            rank = np.concatenate([np.arange(1, place.shape[1] // 2 + 1), -np.arange(1, place.shape[1] // 2 + 1)])
            columns = {
                "neuron": np.repeat(np.arange(len(place), dtype=np.int32), place.shape[1]),
                "rank": np.tile(rank.astype(np.int16), len(place)),
                "token": self._texts.take(pa.array(place.reshape(-1))),
                "is_piece": self._is_piece[place.reshape(-1)],
                "weight": product.reshape(-1),
            }
            parts.append(conform("neuron_vocabulary", columns, **keys, direction=direction))  # type: ignore[arg-type]
        rows = pa.concat_tables(parts) if parts else conform("neuron_vocabulary", [])
        return {"neuron_vocabulary": rows.sort_by([("neuron", "ascending")])}


def _directions(measurement: Measurement, layer: Layer) -> tuple[dict[str, TokenVectors], list[str]]:
    """Return the token vectors of each direction that a layer's stack has, and notes on which they are and lack."""
    model = measurement.model
    stack = tuple(each for each in measurement.layers if each.stack == layer.stack)
    found: dict[str, TokenVectors | str] = {"writes": unembedding(model, stack), "reads": embeddings(model)}
    vectors: dict[str, TokenVectors] = {}
    notices = []
    for direction, tokens in found.items():
        if isinstance(tokens, TokenVectors):
            n_features = weight_vectors(model.module, layer, _kind(layer, direction)).shape[1]
            if tokens.weight.shape[1] == n_features:
                vectors[direction] = tokens
                notices.append(f"what a neuron of the {layer.stack} {direction}: its weights by {tokens.name}")
                continue
            tokens = f"{tokens.name} has {tokens.weight.shape[1]} numbers a token, a neuron's weights {n_features}"
        notices.append(f"what a neuron of the {layer.stack} {direction} is not stored: {tokens}")
    return vectors, notices


def _kind(layer: Layer, direction: str) -> WeightKind:
    """Return the weights of a direction: where a network is gated, what opens the gate is what it reads."""
    if direction == "writes":
        return "output"
    return "gate" if all(network.is_gated for network in layer.feed_forwards) else "input"
