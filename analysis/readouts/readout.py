"""What every readout has and does, and the texts it reads: chosen from a corpus, tokenized, cut into batches."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ...errors import AnalysisError
from ...ingest.activations.pooling import Spans
from ...ingest.activations.tokens import Batch, TokenizedCorpus, TokenizedTargets, check_embedded, collate, tokenize
from ...ingest.corpora.labels import LabelIndex
from ...ingest.corpora.stored import StoredCorpus
from ...ingest.models.model import Model
from ...ingest.neurons.feed_forwards import Stack
from ...schema.vocabulary import ReadoutKind

LEAST_INSTANCES = 10
"""Fewest positives, and negatives, of a function in each half: with fewer a readout says nothing."""


Advance = Callable[[int], None] | None
"""Takes the number of texts of a batch when it is done."""


class Readout(Protocol):
    """A measure of what a model can do, fitted already where there is something to fit."""

    kind: ReadoutKind
    metric: str  # unit of its values
    is_loss: bool = False  # whether higher values are worse
    chance: NDArray[np.float64] | None = None  # the readout of guesses; None if there is no such level [functions]
    model: PreTrainedModel  # the module that is run, in which neurons are ablated
    functions: tuple[tuple[str, str], ...]  # ``(family, function)`` of each function read out
    instance_id: NDArray[np.int64]  # [instances]
    text: NDArray[np.int64]  # of each instance [instances]
    # 1 for positives, 0 for negatives, -1 for instances that do not count for the function [functions, instances]
    strata: NDArray[np.int8]
    n_fitted_texts: int | None = None  # None if there was nothing to fit
    sha256: str  # digest of everything, beside the weights of the body, that decides the values

    def read(self, advance: Advance = None) -> NDArray[np.float32]:
        """Run the model as it is now; return values [functions, instances], or [1, instances] if the same for all."""


def summarize(values: NDArray[np.float32], strata: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return each function's readout: the mean over its strata of the mean value within the stratum. [functions]."""
    values = np.broadcast_to(values, strata.shape).astype(np.float64)
    means = [
        np.divide((values * inside).sum(1), inside.sum(1), out=np.full(len(strata), np.nan), where=inside.any(1))
        for inside in (strata == 0, strata == 1)
    ]
    return np.asarray(np.nanmean(np.stack(means), axis=0))


@dataclass(frozen=True, slots=True)
class Half:
    """The chosen texts of one half of a corpus, in the order in which they are run."""

    tokens: TokenizedCorpus
    labels: NDArray[np.int8]  # 1 for positives, 0 for negatives, -1 for neither [functions, instances]


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a readout: neurons are chosen and readouts fitted on half a, and values are read on half b."""

    model: Model
    corpus: StoredCorpus
    functions: tuple[tuple[str, str], ...]  # ``(family, function)`` of each that can be read out, sorted
    fitted: Half  # a
    read: Half  # b
    batch_tokens: int  # most tokens of a batch, padding included
    of_equal_lengths: bool  # whether all texts of a batch have the same length, so that there is no padding

    def batches(
        self, tokens: TokenizedCorpus, targets: TokenizedTargets | None = None, advance: Advance = None
    ) -> Iterator[tuple[Batch, dict[str, Any], dict[Stack, Spans]]]:
        """Yield each batch of `tokens`, with the model's arguments, `targets` among them, and the instances' spans."""
        for batch in tokens.batches(self.batch_tokens, of_equal_lengths=self.of_equal_lengths):
            yield batch, *collate(self.model, tokens, targets, batch)
            if advance is not None:
                advance(len(batch.texts))


def read_texts(
    model: Model,
    corpus: StoredCorpus,
    *,
    n_texts: int,
    max_tokens: int,  # longer texts are cut
    batch_tokens: int,
    of_equal_lengths: bool,
    seed: int,
) -> Texts:
    """Tokenize a corpus and choose the texts to fit on and to read out, `n_texts` of each half."""
    tokens = tokenize(corpus, model.tokenizer, max_tokens=max_tokens)
    check_embedded(tokens, model.tokenizer, model.module, f"corpus {corpus.name}")
    labels = corpus.label_index(tokens.instance_id)
    halves = []
    for half in (0, 1):
        chosen = tokens.only(_choose_texts(labels, tokens.text, half, n_texts, seed))
        halves.append(Half(chosen, labels.dense(np.flatnonzero(np.isin(tokens.text, chosen.order)))))
    counts = np.stack([(half.labels == label).sum(1) for half in halves for label in (0, 1)])
    kept = np.flatnonzero(counts.min(axis=0) >= LEAST_INSTANCES)
    if not len(kept):
        problem = f"no function of corpus {corpus.name} has {LEAST_INSTANCES} positives"
        raise AnalysisError(f"{problem} and negatives in each half of {n_texts:,} texts")
    fitted, read = (dataclasses.replace(half, labels=half.labels[kept]) for half in halves)
    functions = tuple(labels.functions[index] for index in kept)
    # Padding would change the states of some models.
    return Texts(model, corpus, functions, fitted, read, batch_tokens, of_equal_lengths or model.sees_padding)


def _choose_texts(labels: LabelIndex, text: NDArray[np.int64], half: int, n_texts: int, seed: int) -> NDArray[np.int64]:
    """Return up to `n_texts` of half a (0) or b (1), sorted; classes draw in turns, so that rare ones have any."""
    shuffled = np.random.default_rng((seed, half)).permutation(np.unique(text[labels.half == half]))
    if len(shuffled) <= n_texts:
        return np.sort(shuffled)
    rank = np.full(int(text.max()) + 1, -1)
    rank[shuffled] = np.arange(len(shuffled))
    entry_rank = rank[text[labels.instance]]
    code = np.where(entry_rank >= 0, 2 * labels.function.astype(np.int64) + labels.is_positive, -1)
    queues = deque(iter(np.unique(entry_rank[code == wanted]).tolist()) for wanted in np.unique(code[code >= 0]))
    chosen: dict[int, None] = {}
    while queues and len(chosen) < n_texts:
        following = next((place for place in queues[0] if place not in chosen), None)
        if following is None:
            queues.popleft()
        else:
            chosen[following] = None
            queues.rotate(-1)
    others = (place for place in range(len(shuffled)) if place not in chosen)
    return np.sort(shuffled[[*chosen, *others][:n_texts]])
