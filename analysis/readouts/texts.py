"""The texts of a readout: chosen from a corpus, tokenized, and cut into batches for a model."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...ingest.activations.pooling import Spans
from ...ingest.activations.tokens import Batch, TokenizedCorpus, TokenizedTargets, check_embedded, collate, tokenize
from ...ingest.corpora.labels import LabelIndex
from ...ingest.corpora.stored import StoredCorpus
from ...ingest.models.model import Model
from ...ingest.neurons.feed_forwards import Stack

LEAST_INSTANCES = 10
"""Fewest positives, and negatives, of a function in each half: with fewer a readout says nothing."""


@dataclass(frozen=True, slots=True)
class Half:
    """The chosen texts of one half of a corpus, in the order in which they are run.

    Labels are 1 where an instance is a positive of the function, 0 for a negative, -1 for neither.
    """

    tokens: TokenizedCorpus
    labels: NDArray[np.int8]  # [functions, instances]


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a readout: neurons are chosen and readouts fitted on half a, and values are read on half b."""

    # The loaded model, and the corpus that the texts are from
    model: Model
    corpus: StoredCorpus
    functions: tuple[tuple[str, str], ...]  # ``(family, function)`` of each function that can be read out, sorted
    # Texts of half a and of half b
    fitted: Half
    read: Half
    batch_tokens: int  # most tokens of a batch, padding included
    of_equal_lengths: bool  # whether all texts of a batch have the same length, so that there is no padding

    def batches(
        self,
        tokens: TokenizedCorpus,
        targets: TokenizedTargets | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[Batch, dict[str, Any], dict[Stack, Spans]]]:
        """Yield each batch of `tokens` with the arguments of the model and the spans of its instances.

        A decoder reads `targets` beside them. `advance` is called with a batch's number of texts when it is done.
        """
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
    """Tokenize a corpus and choose the texts to fit on and to read out, `n_texts` of each half.

    If the model's states depend on padding, texts of a batch always have the same length. Raises an `AnalysisError` if
    no function has `LEAST_INSTANCES` positives and negatives in both halves, and an `IngestError` if a text cannot be
    tokenized or holds a token that the model has no embedding for.
    """
    tokens = tokenize(corpus, model.tokenizer, max_tokens=max_tokens)
    check_embedded(tokens, model.tokenizer, model.module, f"corpus {corpus.name}")
    labels = corpus.label_index(tokens.instance_id, tokens.text)
    halves = []
    for half in (0, 1):
        chosen = tokens.only(choose_texts(labels, tokens.text, half=half, n_texts=n_texts, seed=seed))
        place = np.flatnonzero(np.isin(tokens.text, chosen.order))
        halves.append(Half(chosen, labels.dense(place)))
    counts = np.stack([(half.labels == label).sum(1) for half in halves for label in (0, 1)])
    kept = np.flatnonzero(counts.min(axis=0) >= LEAST_INSTANCES)
    if not len(kept):
        raise AnalysisError(
            f"no function of corpus {corpus.name} has {LEAST_INSTANCES} positives and negatives in each half of "
            f"{n_texts:,} texts"
        )
    fitted, read = (dataclasses.replace(half, labels=half.labels[kept]) for half in halves)
    functions = tuple(labels.functions[index] for index in kept)
    return Texts(model, corpus, functions, fitted, read, batch_tokens, of_equal_lengths or model.sees_padding)


def choose_texts(
    labels: LabelIndex, text: NDArray[np.int64], *, half: int, n_texts: int, seed: int
) -> NDArray[np.int64]:
    """Choose up to `n_texts` of half a (0) or b (1) at random, such that rare functions have instances among them.

    The positives of each function, and the negatives, take turns to choose a text that holds one of them. The result is
    sorted. `text` has the text of each instance.
    """
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
