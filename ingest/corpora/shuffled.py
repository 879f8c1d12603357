"""A corpus of the store with its labels permuted: the null of everything that is measured with the corpus.

The same texts run through a model, so its activations and their correlations are the same; only which instance has
which label is chance. What a view then shows is what chance gives.
"""

import hashlib
import itertools
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...errors import IngestError
from ...schema.store import Store
from .instance import Instance, Negatives, Source
from .stored import StoredCorpus


def read_shuffled(corpus: str, *, store: str | os.PathLike[str], seed: int = 0) -> Source:
    """Return a source of the instances of a stored corpus, with the labels permuted among them.

    Texts, targets, spans, split groups, ids and the counts of each function stay the same. Where unlabelled means
    negative (`rest`), all labels of an instance move together to another instance. Where negatives are `explicit`,
    the labels of a function are permuted among the instances that have one; functions that label the same instances
    share one permutation. So functions that occurred together still do.

    Parameters
    ----------
    corpus
        Name of the corpus in the store.
    store
        The store's folder.
    seed
        Seed of the permutations, not negative.

    Raises
    ------
    UnknownNameError
        If the store has no such corpus.
    IngestError
        If some of its functions have explicit negatives and others have not.
    StoreError
        Here or while reading, if a file of the corpus is missing or damaged.

    Examples
    --------
    >>> source = neuronlake.read_shuffled("animals", store="neuronlake-store", seed=1)
    >>> neuronlake.build_corpus(source, "animals-shuffled", store="neuronlake-store").n_instances
    80
    """
    stored = StoredCorpus(Store(store), corpus)
    (row,) = stored.read("corpora", "licence", "source", "n_instances").to_pylist()
    functions = stored.functions()
    n_rest = sum(function["negatives"] == "rest" for function in functions)
    if 0 < n_rest < len(functions):
        raise IngestError(
            f"corpus {corpus}: negatives are the rest in {n_rest} of {len(functions)} functions and explicit in the "
            "others; only a corpus of one kind can be shuffled"
        )
    negatives: Negatives = "rest" if n_rest else "explicit"
    descriptions = {f"{function['family']}/{function['function']}": function["description"] for function in functions}
    return Source(
        instances=_instances(stored, _labels(stored, list(descriptions), row["n_instances"], negatives, seed)),
        description=f"labels of {corpus} permuted, seed {seed}",
        licence=row["licence"],
        origin=f"shuffled: {corpus} ({row['source']})",
        negatives=negatives,
        descriptions={name: text for name, text in descriptions.items() if text is not None},
    )


def _instances(stored: StoredCorpus, labels: Iterator[dict[str, bool]]) -> Iterator[Instance]:
    """Yield all instances in the order stored, from which the builder makes the same ids again."""
    texts = stored.read("texts", "text", "target", "split_group").columns
    for batch in stored.batches("instances", "text_id", "start_char", "end_char", "source_id"):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        # Spans of one text mostly follow each other, and share one copy of it.
        for text_id, spans in itertools.groupby(rows, key=lambda row: row[0]):
            text, target, split_group = (column[text_id].as_py() for column in texts)
            for _, start, end, source_id in spans:
                yield Instance(text, next(labels), start, end, target, source_id, split_group)


def _labels(
    stored: StoredCorpus, names: list[str], n_instances: int, negatives: Negatives, seed: int
) -> Iterator[dict[str, bool]]:
    """Yield the permuted labels, instance by instance."""
    instance, function, is_positive = stored.labels()
    draws = np.random.PCG64(seed)
    if negatives == "rest":
        instance = _permutation(n_instances, draws)[instance]
        order = np.argsort(instance, kind="stable")
        instance, function, is_positive = instance[order], function[order], is_positive[order]
    else:
        permutations: dict[bytes, NDArray[np.int64]] = {}  # by the instances that a function labels
        by_function = np.argsort(function, kind="stable")  # within a function still by instance
        for rows in np.split(by_function, np.cumsum(np.bincount(function))[:-1]):
            labelled = hashlib.sha256(instance[rows].tobytes()).digest()
            if labelled not in permutations:
                permutations[labelled] = _permutation(len(rows), draws)
            is_positive[rows] = is_positive[rows][permutations[labelled]]
    ends = np.cumsum(np.bincount(instance, minlength=n_instances)).tolist()
    for start, end in itertools.pairwise([0, *ends]):
        codes, values = function[start:end].tolist(), is_positive[start:end].tolist()
        yield {names[code]: value for code, value in zip(codes, values, strict=True)}


def _permutation(size: int, draws: np.random.PCG64) -> NDArray[np.int64]:
    """Return a random order of ``range(size)``, the same in every version of numpy.

    numpy keeps the bits of a generator between versions, but not what `Generator.permutation` makes of them.
    """
    return np.argsort(draws.random_raw(size), kind="stable")
