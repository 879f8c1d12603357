"""A labelled corpus, read back from a store for measuring."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...errors import IngestError, UnknownNameError
from ...schema import parquet
from ...schema.names import corpus_job
from ...schema.store import Store
from .label_index import LabelIndex

__all__ = ["Instances", "StoredCorpus"]


@dataclass(frozen=True, slots=True)
class Instances:
    """All instances of a corpus, sorted by text.

    Parameters
    ----------
    instance_id, text
        The instance and its text, both as stored. [instances] each
    start_char, end_char
        Its span in characters, NaN for the whole text. [instances] each
    """

    instance_id: NDArray[np.int64]
    text: NDArray[np.int64]
    start_char: NDArray[np.float64]
    end_char: NDArray[np.float64]


class StoredCorpus:
    """A corpus of a store.

    Parameters
    ----------
    store
        The store.
    name
        Name of the corpus.

    Raises
    ------
    UnknownNameError
        If the store has no such corpus.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self._store = store
        if store.commit(corpus_job(name)) is None:
            names = [commit.job.removeprefix(corpus_job("")) for commit in store.commits() if commit.kind == "corpus"]
            raise UnknownNameError("corpus", name, names, where=store.path)
        self.sha256: str = self._read("corpora", ("corpus_sha256",))["corpus_sha256"][0]

    def instances(self) -> Instances:
        """Read all instances."""
        found = self._read("instances", ("instance_id", "text_id", "start_char", "end_char"))
        by_text = np.argsort(found["text_id"], kind="stable")
        return Instances(
            instance_id=found["instance_id"][by_text],
            text=found["text_id"][by_text],
            start_char=found["start_char"][by_text].astype(np.float64),
            end_char=found["end_char"][by_text].astype(np.float64),
        )

    def texts(self) -> Iterator[str]:
        """Yield all texts in order, a file of them in memory at a time."""
        for path in self._store.files("texts", job=corpus_job(self.name)):
            yield from parquet.read((path,), ("text",)).column("text").to_pylist()

    def targets(self) -> Iterator[str | None]:
        """Yield the target of each text in order, None where it has none."""
        for path in self._store.files("texts", job=corpus_job(self.name)):
            yield from parquet.read((path,), ("target",)).column("target").to_pylist()

    @cached_property
    def n_without_target(self) -> int:
        """How many texts have no target; read when first asked for."""
        return sum(not (target and target.strip()) for target in self.targets())

    def label_index(self, instance_id: NDArray[np.int64], text: NDArray[np.int64]) -> LabelIndex:
        """Lay the labels of some instances out in a given order.

        Parameters
        ----------
        instance_id, text
            The instances and their texts, in the order wanted.

        Raises
        ------
        IngestError
            If a function lacks positives or negatives among them.
        """
        declared = self._read("functions", ("family", "function", "negatives"))
        functions = list(zip(declared["family"], declared["function"], strict=True))
        order = sorted(range(len(functions)), key=functions.__getitem__)
        functions = [functions[index] for index in order]
        number = {name: index for index, name in enumerate(functions)}
        labels = self._read("labels", ("instance_id", "family", "function", "is_positive"))
        code = np.fromiter(
            (number[pair] for pair in zip(labels["family"], labels["function"], strict=True)),
            dtype=np.int32,
            count=len(labels["family"]),
        )
        position = np.full(1 + max(int(labels["instance_id"].max()), int(instance_id.max())), -1)
        position[instance_id] = np.arange(len(instance_id))
        instance = position[labels["instance_id"]]
        measured = instance >= 0
        half = (self._read("texts", ("half",))["half"] == "b").astype(np.uint8)
        index = LabelIndex.build(
            functions,
            is_rest=declared["negatives"][order] == "rest",
            half=half[text],
            instance=instance[measured],
            function=code[measured],
            is_positive=labels["is_positive"][measured].astype(np.uint8),
        )
        self._check_classes(index, len(instance_id))
        return index

    def _check_classes(self, index: LabelIndex, n_instances: int) -> None:
        for (family, function), counts in zip(index.functions, index.function_counts(), strict=True):
            if not (counts.n_positive and counts.n_negative):
                raise IngestError(
                    f"corpus {self.name}: of {n_instances} measured instances, {counts.n_positive} are positive and "
                    f"{counts.n_negative} negative for {family}/{function}; both are needed (texts cut too short?)"
                )

    def _read(self, table: str, columns: Sequence[str]) -> dict[str, NDArray]:  # type: ignore[type-arg]
        data = parquet.read(self._store.files(table, job=corpus_job(self.name)), tuple(columns))
        return {name: data.column(name).to_numpy() for name in columns}
