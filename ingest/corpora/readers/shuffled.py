"""A corpus of the store with its labels permuted: the null of everything that is measured with the corpus.

The same texts run through a model, so its activations and their correlations are the same; only which instance has
which label is chance. What a view then shows is what chance gives: that of instances, or that of texts or words whose
labels stay together, which is more where instances of one text or word are alike.
"""

import itertools
import os
from collections.abc import Iterator
from typing import Literal

import numpy as np

from ....errors import IngestError
from ....schema.store import Store
from ....schema.vocabulary import ShuffleUnit
from ..control_tasks import Permutations, permutations_of
from ..instance import Instance, Reading, Source
from ..stored import StoredCorpus


def read_shuffled(
    corpus: str,
    *,
    store: str | os.PathLike[str],
    by: ShuffleUnit = "instance",
    within: Literal["stratum"] | None = None,
    seed: int = 0,
) -> Source:
    """Return a source of the instances of a stored corpus, with the labels permuted among them.

    Texts, targets, spans, split groups, ids and the counts of each function stay the same. Where unlabelled means
    negative (`rest`), all labels of an instance move together to another. Where negatives are `explicit`, the labels of
    a function are permuted among the instances that have one, alike for functions that label the same instances.

    Parameters
    ----------
    corpus
        Name of the corpus in the store.
    store
        The store's folder.
    by
        What keeps its labels together. ``instance``: nothing. ``text``, ``group``: the labels of a text, or of a split
        group, move to another with about as many instances, in their order, which begins anywhere and goes round: so
        labels by their place in a text are chance too. ``word``: those of a word move to another word of like
        frequency, at random over its occurrences: the control task of Hewitt and Liang (2019, "Designing and
        Interpreting Probes with Control Tasks"). The word is the lemma, or else the span's characters, casefolded.
    within
        ``stratum``: labels stay in their stratum (`Instance`), and what moves together is what a text, group or word
        has there. Instances without a stratum make one of their own.
    seed
        Seed of the permutations, not negative.

    Raises
    ------
    UnknownNameError
        If the store has no such corpus.
    IngestError
        If only some of its functions have explicit negatives, or if its instances have no words, groups or strata to
        go by; while reading, if no label can move.
    StoreError
        Here or while reading, if a file of the corpus is missing or damaged.

    Notes
    -----
    A word that is the only one of its stratum, or of the instances of an explicit function, keeps its labels, and one
    that makes more than half of them keeps some; so for texts and groups. `dropped` counts such instances.

    Examples
    --------
    >>> source = neuronlake.read_shuffled("animals", store="neuronlake-store", seed=1)
    >>> neuronlake.build_corpus(source, "animals-shuffled", store="neuronlake-store").n_instances
    80
    """
    stored, reading = StoredCorpus(Store(store), corpus), Reading()
    (row,) = stored.read("corpora", "licence", "source").to_pylist()
    functions = stored.functions()
    n_rest = sum(function["negatives"] == "rest" for function in functions)
    if 0 < n_rest < len(functions):
        raise IngestError(
            f"corpus {corpus}: negatives are the rest in {n_rest} of {len(functions)} functions and explicit in the "
            "others; only a corpus of one kind can be shuffled"
        )
    descriptions = {f"{function['family']}/{function['function']}": function["description"] for function in functions}
    text = stored.read("instances", "text_id").column(0).to_numpy()
    permutations = permutations_of(stored, np.arange(len(text)), text, by, within, seed)
    labels = _labels(stored, list(descriptions), permutations, reading, is_rest=n_rest > 0)
    how = f" by {by}" * (by != "instance") + f" within {within}" * (within is not None)
    return Source(
        instances=_instances(stored, labels),
        description=f"labels of {corpus} permuted{how}, seed {seed}",
        licence=row["licence"],
        origin=f"shuffled: {corpus} ({row['source']})",
        negatives="rest" if n_rest else "explicit",
        descriptions={name: text for name, text in descriptions.items() if text is not None},
        reading=reading,
    )


def _instances(stored: StoredCorpus, labels: Iterator[dict[str, bool]]) -> Iterator[Instance]:
    """Yield all instances in the order stored, from which the builder makes the same ids again."""
    texts = stored.read("texts", "text", "target", "split_group").columns
    columns = ("text_id", "start_char", "end_char", "source_id", "lemma", "stratum")
    for batch in stored.batches("instances", *columns):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        # Spans of one text mostly follow each other, and share one copy of it.
        for text_id, spans in itertools.groupby(rows, key=lambda row: row[0]):
            text, target, split_group = (column[text_id].as_py() for column in texts)
            for _, start, end, source_id, lemma, stratum in spans:
                yield Instance(text, next(labels), start, end, target, source_id, split_group, lemma, stratum)


def _labels(
    stored: StoredCorpus, names: list[str], permutations: Permutations, reading: Reading, *, is_rest: bool
) -> Iterator[dict[str, bool]]:
    """Yield the permuted labels, instance by instance."""
    instance, function, is_positive = stored.labels()
    instance, is_positive = permutations.permute(instance, function, is_positive, np.full(len(names), is_rest))
    order = np.argsort(instance, kind="stable")
    instance, function, is_positive = instance[order], function[order], is_positive[order]
    if permutations.n_kept:
        if permutations.n_kept == permutations.n_drawn:
            raise IngestError(
                f"corpus {stored.name}: no label can move, as none of its functions (or strata) has instances of two "
                "such units; shuffle it by instance"
            )
        reading.dropped["instance with labels of its own unit, for want of others"] += permutations.n_kept
    ends = np.cumsum(np.bincount(instance, minlength=len(permutations.unit))).tolist()
    for start, end in itertools.pairwise([0, *ends]):
        codes, values = function[start:end].tolist(), is_positive[start:end].tolist()
        yield {names[code]: value for code, value in zip(codes, values, strict=True)}
