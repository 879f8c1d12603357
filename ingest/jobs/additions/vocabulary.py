"""Which tokens a neuron's weights write and read: the table ``neuron_vocabulary``, of a job beside a run's.

Output weights are multiplied with the unembedding, past the model's last norm, and input weights, those of the gate
where there is one, with the embeddings. No text is run.
"""

import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from ....errors import IngestError
from ....progress import Progress
from ....schema.conformance import conform
from ....schema.job import Job
from ....schema.vocabulary import WeightKind
from ...models.loading import head_class
from ...models.model import Model
from ...models.tokenizers import embedding_layer, spelling
from ...neurons.feed_forwards import Layer, Stack
from ...neurons.weights import extreme_tokens, plain, weight_vectors
from ..measurement import Measurement
from ..sinks import Sink

N_EITHER_END = 10
"""Tokens kept of the highest, and as many of the lowest, of a neuron and direction."""

_TIMED_NEURONS = 64


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """One vector a token of the vocabulary."""

    name: str  # how a note names them
    weight: torch.Tensor  # [tokens, features]
    norm: nn.Module | None = None  # the norm between what neurons write and these vectors

    def through_norm(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return vectors [neurons, features] as the norm passes them on, but for its division by the state's size.

        The gain is what the norm makes of ones and minus ones: so an offset falls out, and a gain that is kept as its
        distance from 1 counts whole.
        """
        if self.norm is None:
            return vectors
        parameter = next(self.norm.parameters(), self.weight)
        ones = torch.ones(1, 1, vectors.shape[1], dtype=parameter.dtype, device=parameter.device)
        ones[..., 1::2] = -1
        with torch.inference_mode():
            gain = ((self.norm(ones) - self.norm(-ones)) / 2 * ones).float().cpu()[0, 0]
            moved = (self.norm(ones + 1) - self.norm(ones)).float().cpu()[0, 0]  # by rounding, or by half of the gain
            is_centring = bool(moved.abs().sum() < 0.1 * gain.abs().sum())
            passed: torch.Tensor = (vectors - vectors.mean(1, keepdim=True) if is_centring else vectors) * gain
        return passed


def add_vocabulary(measurement: Measurement, job: Job, run: Job | None, progress: Progress) -> None:
    """Stage the vocabulary of a run, of whose rows it needs none; what the model has none of is noted."""
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

    tables = ("neuron_vocabulary",)

    def __init__(self, measurement: Measurement, job: Job) -> None:
        super().__init__(measurement, job, {layer: 4 * N_EITHER_END * layer.n_neurons for layer in measurement.layers})
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


def embeddings(model: Model, stack: Stack) -> TokenVectors:
    """Return the vectors that tokens enter a stack as; raise `IngestError` if their numbers cannot be read."""
    (path,) = (part.path for part in model.parts if part.stack == stack)
    layer = embedding_layer(model.module.get_submodule(path))
    return TokenVectors(_name(layer, model.module), _weight(layer, model))


def unembedding(model: Model, layers: tuple[Layer, ...]) -> TokenVectors | str:
    """Return the vectors by which the states of some layers, of one stack, become logits; or why there are none.

    Without a head in the checkpoint they are the embeddings, if the class of its head ties them.
    """
    if layers[0].stack == "encoder" and model.config.is_encoder_decoder:
        return "its encoder predicts no tokens"
    norm, through = _final_norm(model, layers), ""
    if norm is not None:
        through = f" through {_name(norm, model.module)} ({type(norm).__name__}, its gain folded in)"
    if model.head is None:
        try:
            kind = head_class(model.config, model.name)
        except IngestError as error:
            return str(error)
        with torch.device("meta"):
            outline = kind(model.config)
        layer = outline.get_output_embeddings()  # type: ignore[no-untyped-call]
        stack = outline.get_decoder() if model.config.is_encoder_decoder else outline  # type: ignore[no-untyped-call]
        reads = embedding_layer(stack)
        if layer is None or layer.weight is not reads.weight:
            return f"the checkpoint holds no head, and {kind.__name__} does not tie one to its embeddings"
        tied = embeddings(model, layers[0].stack)
        return TokenVectors(f"{tied.name}, to which {kind.__name__} ties its head{through}", tied.weight, norm)
    layer = model.head.get_output_embeddings()  # type: ignore[no-untyped-call]
    if layer is None:
        return f"{type(model.head).__name__} has no unembedding"
    whole = model.head.base_model
    known = {layer, *(model.module if whole is model.head else whole).modules()}
    linear = {part: path for path, part in model.head.named_modules() if isinstance(part, nn.Linear)}
    between = [path for part, path in linear.items() if part not in known]
    skipped = f", without what {', '.join(between)} computes before it" if between else ""
    return TokenVectors(f"{_name(layer, model.head)}{through}{skipped}", _weight(layer, model), norm)


def _final_norm(model: Model, layers: tuple[Layer, ...]) -> nn.Module | None:
    """Return the norm that the last block leads into, or the last state comes out of, as a trial shows."""
    match = re.match(r"(?:.*?\.)?\w+(?=\.\d+\.)", layers[0].feed_forwards[0].path)
    if match is None:
        return None
    blocks, latest = set(model.module.get_submodule(match[0]).modules()), torch.empty(0)
    behind: dict[nn.Module, tuple[torch.Tensor, bool]] = {}  # norms: what comes out, whether the last block goes in

    def see(part: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal latest
        state = output[0] if isinstance(output, tuple) and output else output
        if not isinstance(state, torch.Tensor):
            return
        if part in blocks:
            latest = state
            behind.clear()
        elif "Norm" in type(part).__name__ and len(latest):
            behind[part] = state, any(isinstance(of, torch.Tensor) and torch.equal(of, latest) for of in inputs)

    tokens = torch.ones(1, 4, dtype=torch.long, device=next(model.module.parameters()).device)
    inputs = dict.fromkeys(("input_ids", "decoder_input_ids")[: len(model.parts)], tokens)
    with contextlib.ExitStack() as hooks, torch.inference_mode():
        for path, part in model.module.named_modules():
            if part in blocks or not re.search(r"\.\d+", path):  # in other lists stand the norms of blocks, as in XLM
                hooks.callback(part.register_forward_hook(see).remove)
        last = model.module(**inputs)[0]
    norms = [part for part, (state, is_behind) in behind.items() if is_behind or torch.equal(state, last)]
    return norms[-1] if norms else None


def _name(part: nn.Module, whole: nn.Module) -> str:
    return next((path for path, module in whole.named_modules() if module is part), type(part).__name__)


def _weight(layer: nn.Module, model: Model) -> torch.Tensor:
    weight, kind = getattr(layer, "weight", None), type(layer).__name__
    if not isinstance(weight, torch.Tensor) or weight.is_meta:
        raise IngestError(f"model {model.name}: the weights of its {kind} are not in memory to be read")
    weight = plain(weight)
    if not weight.is_floating_point() or weight.itemsize < 2:
        raise IngestError(f"model {model.name}: its {kind} is quantised ({weight.dtype}); its numbers cannot be read")
    return weight
