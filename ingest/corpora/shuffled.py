"""A corpus of the store with its labels permuted: the null of everything that is measured with the corpus.

The same texts run through a model, so its activations and their correlations are the same; only which instance has
which label is chance. What a view then shows is what chance gives.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import IngestError
from ...schema import parquet
from ...schema.names import corpus_job
from ...schema.store import Store
from .instance import Instance, Negatives, Source
from .stored import StoredCorpus

__all__ = ["read_shuffled"]


def read_shuffled(corpus: str, *, store: str | os.PathLike[str], seed: int = 0) -> Source:
    """Return a corpus of a store with its labels permuted among its instances, about to be read.

    Texts, targets, spans, split groups and ids stay, and so do the counts of each function. Where unlabelled means
    negative (`rest`), the labels of an instance move together to another instance. Where negatives are `explicit`,
    a function's labels are permuted among the instances it labels, by one permutation for all functions that label
    the same instances. So functions that occur together still do.

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
    """
    folder = Store(store)
    StoredCorpus(folder, corpus)  # raises if there is none
    (held,) = _read(folder, corpus, "corpora", "licence", "source").to_pylist()
    functions = _read(folder, corpus, "functions", "family", "function", "negatives", "description").to_pylist()
    descriptions = {f"{row['family']}/{row['function']}": row["description"] for row in functions}
    n_rest = sum(row["negatives"] == "rest" for row in functions)
    if 0 < n_rest < len(functions):
        raise IngestError(
            f"corpus {corpus}: negatives are the rest in {n_rest} of {len(functions)} functions and explicit in the "
            "others; only a corpus of one kind can be shuffled"
        )
    negatives: Negatives = "rest" if n_rest else "explicit"
    return Source(
        instances=_instances(folder, corpus, list(descriptions), negatives, seed),
        description=f"labels of {corpus} permuted, seed {seed}",
        licence=held["licence"],
        origin=f"shuffled: {corpus} ({held['source']})",
        negatives=negatives,
        descriptions=descriptions,
    )


def _instances(store: Store, corpus: str, names: Sequence[str], negatives: Negatives, seed: int) -> Iterator[Instance]:
    """Yield all instances in the order stored, from which the builder makes the same ids again."""
    texts = _read(store, corpus, "texts", "text", "target", "split_group").columns
    labels = _labels(store, corpus, names, negatives, seed)
    text_id = -1
    text, target, split_group = "", None, None
    for path in store.files("instances", job=corpus_job(corpus)):
        columns = parquet.read((path,), ("text_id", "start_char", "end_char", "source_id")).columns
        for row in zip(*(column.to_pylist() for column in columns), strict=True):
            # Spans of one text mostly follow each other, and share one copy of it.
            if row[0] != text_id:
                text_id = row[0]
                text, target, split_group = (column[text_id].as_py() for column in texts)
            yield Instance(
                text,
                next(labels),
                start=row[1],
                end=row[2],
                target=target,
                source_id=row[3],
                split_group=split_group,
            )


def _labels(
    store: Store, corpus: str, names: Sequence[str], negatives: Negatives, seed: int
) -> Iterator[dict[str, bool]]:
    """Yield the labels of each instance, permuted."""
    instance, function, is_positive = _stored_labels(store, corpus, names)
    n_instances = sum(parquet.n_rows(path) for path in store.files("instances", job=corpus_job(corpus)))
    draws = np.random.PCG64(seed)
    if negatives == "rest":
        instance = _permutation(n_instances, draws)[instance]
        order = np.argsort(instance, kind="stable")
        instance, function, is_positive = instance[order], function[order], is_positive[order]
    else:
        is_positive = _permuted(is_positive, instance, function, draws)
    ends = np.cumsum(np.bincount(instance, minlength=n_instances)).tolist()
    start = 0
    for end in ends:
        codes, values = function[start:end].tolist(), is_positive[start:end].tolist()
        yield {names[code]: value for code, value in zip(codes, values, strict=True)}
        start = end


def _stored_labels(
    store: Store, corpus: str, names: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
    """Return instance, place of the function in `names`, and value of every label, sorted by instance and function."""
    places = pa.array(names, pa.string())
    parts = []
    # A file at a time: the names of functions, repeated for each label, are most of what is read.
    for path in store.files("labels", job=corpus_job(corpus)):
        rows = parquet.read((path,), ("instance_id", "family", "function", "is_positive"))
        label = pc.binary_join_element_wise(rows.column("family"), rows.column("function"), "/")
        code = pc.index_in(label, value_set=places)
        parts.append([column.to_numpy() for column in (rows.column("instance_id"), code, rows.column("is_positive"))])
    instance, function, is_positive = (np.concatenate(column) for column in zip(*parts, strict=True))
    return instance, function, is_positive


def _permuted(
    is_positive: NDArray[np.bool_], instance: NDArray[np.int64], function: NDArray[np.int32], draws: np.random.PCG64
) -> NDArray[np.bool_]:
    """Return the values of labels, those of each function permuted; functions of the same instances alike."""
    permuted = is_positive.copy()
    permutations: dict[bytes, NDArray[np.int64]] = {}
    by_function = np.argsort(function, kind="stable")  # within a function still by instance
    for rows in np.split(by_function, np.cumsum(np.bincount(function))[:-1]):
        labelled = hashlib.sha256(instance[rows].tobytes()).digest()
        if labelled not in permutations:
            permutations[labelled] = _permutation(len(rows), draws)
        permuted[rows] = is_positive[rows[permutations[labelled]]]
    return permuted


def _permutation(size: int, draws: np.random.PCG64) -> NDArray[np.int64]:
    """Return a random order of ``range(size)``, the same in every version of numpy.

    numpy keeps the bits of a generator between versions, but not what `Generator.permutation` makes of them.
    """
    return np.argsort(draws.random_raw(size), kind="stable")


def _read(store: Store, corpus: str, table: str, *columns: str) -> pa.Table:
    return parquet.read(store.files(table, job=corpus_job(corpus)), columns)
