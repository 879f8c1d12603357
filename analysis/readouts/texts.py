"""What a study is made on: a loaded model, and the texts of a corpus that it is read out on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...ingest.activations.tokens import Batch, TokenizedCorpus, tokenize
from ...ingest.corpora.labels import LabelIndex
from ...ingest.corpora.stored import StoredCorpus
from ...ingest.models.model import Model
from ...ingest.models.tokenizers import check_embedded

__all__ = ["LEAST_INSTANCES", "Subject", "Texts", "choose_texts", "read_subject"]

LEAST_INSTANCES = 10
"""Fewest positives, and negatives, of a function in each half: with fewer a readout says nothing."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Some texts of a corpus as the model reads them.

    Parameters
    ----------
    tokens
        Tokens and instances, in the order they are run.
    labels
        What each function says of each instance: 1 positive, 0 negative, -1 outside. [functions, instances]
    """

    tokens: TokenizedCorpus
    labels: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and the texts it is read out on.

    Neurons are chosen by their scores on half a, readouts are fitted on half a, and all is read on half b: nothing of
    what is read had a part in the choice.

    Parameters
    ----------
    model
        The loaded model.
    corpus
        The corpus.
    functions
        ``(family, function)`` of each function that can be read out, sorted.
    fitted, read
        Texts of half a and of half b.
    batch_tokens
        Tokens of a batch, padding included.
    of_equal_lengths
        Whether texts of a batch must be of one length, so that there is no padding.
    """

    model: Model
    corpus: StoredCorpus
    functions: tuple[tuple[str, str], ...]
    fitted: Texts
    read: Texts
    batch_tokens: int
    of_equal_lengths: bool

    def batches(self, texts: Texts) -> Iterator[Batch]:
        """Cut texts into batches, the same each time."""
        return texts.tokens.batches(self.batch_tokens, of_equal_lengths=self.of_equal_lengths)


def read_subject(
    model: Model,
    corpus: StoredCorpus,
    *,
    n_texts: int,
    max_tokens: int,
    batch_tokens: int,
    of_equal_lengths: bool,
    seed: int,
) -> Subject:
    """Tokenize a corpus and choose the texts to fit on and to read out.

    Parameters
    ----------
    model, corpus
        The model and the corpus.
    n_texts
        Most texts of each half (see `choose_texts`).
    max_tokens
        Longest text in tokens; what lies beyond is cut.
    batch_tokens, of_equal_lengths
        As in `Subject`.
    seed
        Of the choice of texts.

    Raises
    ------
    AnalysisError
        If no function has `LEAST_INSTANCES` positives and negatives in both halves.
    IngestError
        If a text cannot be tokenized, or holds a token that the model has no embedding for.
    """
    tokens = tokenize(corpus, model.tokenizer, max_tokens=max_tokens)
    check_embedded(tokens, model.tokenizer, model.module, f"corpus {corpus.name}")
    labels = corpus.label_index(tokens.instance_id, tokens.text)
    halves = []
    for half in (0, 1):
        chosen = tokens.only(choose_texts(labels, tokens.text, half=half, n_texts=n_texts, seed=seed))
        place = np.flatnonzero(np.isin(tokens.text, chosen.order))
        halves.append(Texts(chosen, labels.dense(place)))
    counts = np.stack([np.stack([(each.labels == 1).sum(1), (each.labels == 0).sum(1)]) for each in halves])
    kept = np.flatnonzero(counts.min(axis=(0, 1)) >= LEAST_INSTANCES)
    if not len(kept):
        raise AnalysisError(
            f"no function of corpus {corpus.name} has {LEAST_INSTANCES} positives and negatives in each half of "
            f"{n_texts:,} texts"
        )
    fitted, read = (Texts(each.tokens, each.labels[kept]) for each in halves)
    functions = tuple(labels.functions[index] for index in kept)
    return Subject(model, corpus, functions, fitted, read, batch_tokens, of_equal_lengths or model.sees_padding)


def choose_texts(
    labels: LabelIndex, text: NDArray[np.int64], *, half: int, n_texts: int, seed: int
) -> NDArray[np.int64]:
    """Choose texts of a half at random, but so that rare functions have instances: each label's turn comes round.

    Parameters
    ----------
    labels
        Labels of the instances.
    text
        The text of each. [instances]
    half
        0 for half a, 1 for half b.
    n_texts
        Most texts to choose.
    seed
        Of the choice.

    Returns
    -------
    texts
        Sorted.
    """
    inside = labels.half == half
    every = np.random.default_rng((seed, half)).permutation(np.unique(text[inside]))
    if len(every) <= n_texts:
        return np.sort(every)
    rank = np.full(int(text.max()) + 1, -1)
    rank[every] = np.arange(len(every))
    entry_instance = np.repeat(np.arange(labels.n_instances), np.diff(labels.indptr))
    entry_rank = rank[text[entry_instance]]
    code = np.where(entry_rank >= 0, 2 * labels.function.astype(np.int64) + labels.is_positive, -1)
    turns = [iter(np.unique(entry_rank[code == each]).tolist()) for each in np.unique(code[code >= 0])]
    chosen: dict[int, None] = {}
    for each in _in_turn(turns, chosen):
        chosen[each] = None
        if len(chosen) == n_texts:
            break
    for each in range(len(every)):
        if len(chosen) == n_texts:
            break
        chosen.setdefault(each, None)
    return np.sort(every[list(chosen)])


def _in_turn(turns: Sequence[Iterator[int]], chosen: dict[int, None]) -> Iterator[int]:
    """Yield the next text of each in turn that is not chosen yet, until none has any."""
    left = list(turns)
    while left:
        going = []
        for each in left:
            following = next((rank for rank in each if rank not in chosen), None)
            if following is not None:
                yield following
                going.append(each)
        left = going
