"""A labelled corpus, read back from a store for measuring."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import IngestError, UnknownNameError
from ...schema import parquet
from ...schema.names import corpus_job
from ...schema.store import Store
from ...schema.vocabulary import Halves
from .instance import half_of
from .labels import LabelIndex

_ADDED = ("lemma", "stratum")  # columns of instances that corpora stored before schema version 3 lack


@dataclass(frozen=True, slots=True)
class Instances:
    """All instances of a corpus, sorted by text."""

    instance_id: NDArray[np.int64]  # as stored [instances]
    text: NDArray[np.int64]  # number of its text, as stored [instances]
    start_char: NDArray[np.float64]  # NaN for the whole text [instances]
    end_char: NDArray[np.float64]  # one past the span's last, or NaN [instances]


class StoredCorpus:
    """A corpus in a store, whose tables are read when asked for."""

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self.store = store
        if store.commit(corpus_job(name)) is None:
            names = [commit.job.removeprefix(corpus_job("")) for commit in store.commits() if commit.kind == "corpus"]
            raise UnknownNameError("corpus", name, names, where=store.path)
        self.sha256: str = self.read("corpora", "corpus_sha256")[0][0].as_py()

    def read(self, table: str, *columns: str) -> pa.Table:
        """Return columns of the corpus's rows in a table."""
        return parquet.read(self.store.files(table, job=corpus_job(self.name)), columns, may_lack=_ADDED)

    def batches(self, table: str, *columns: str) -> Iterator[pa.Table]:
        """Yield columns of the corpus's rows in a table, a file at a time, so that one is in memory."""
        for path in self.store.files(table, job=corpus_job(self.name)):
            yield parquet.read((path,), columns, may_lack=_ADDED)

    def instances(self) -> Instances:
        """Return all instances, sorted by text."""
        columns = self.read("instances", "instance_id", "text_id", "start_char", "end_char").columns
        by_text = np.argsort(columns[1].to_numpy(), kind="stable")
        instance_id, text, start, end = (column.to_numpy()[by_text] for column in columns)
        return Instances(instance_id, text, start.astype(np.float64), end.astype(np.float64))

    def texts(self) -> Iterator[str]:
        """Yield all texts in order, a file of them in memory at a time."""
        return (text for batch in self.batches("texts", "text") for text in batch.column(0).to_pylist())

    def targets(self) -> Iterator[str | None]:
        """Yield the targets of all texts in order, None where a text has none."""
        return (target for batch in self.batches("texts", "target") for target in batch.column(0).to_pylist())

    @cached_property
    def n_without_target(self) -> int:
        """Number of texts without a target."""
        return sum(not (target and target.strip()) for target in self.targets())

    @cached_property
    def has_groups(self) -> bool:
        """Whether some text is of a group of texts that halves keep together."""
        groups = self.read("texts", "split_group").column(0)
        return bool(groups.null_count < len(groups))

    def strata(self) -> pa.DictionaryArray:
        """Return the stratum of every instance by its id, NULL where it has none."""
        return self.read("instances", "stratum").column(0).combine_chunks().dictionary_encode()

    def functions(self) -> list[dict[str, str | None]]:
        """Return family, function, negatives and description of all functions, sorted by the first two."""
        rows = self.read("functions", "family", "function", "negatives", "description").to_pylist()
        return sorted(rows, key=lambda row: (row["family"], row["function"]))

    def labels(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
        """Return instance, place of the function in `functions`, and value of every label, sorted by the first two."""
        places = pa.array([f"{row['family']}/{row['function']}" for row in self.functions()], pa.string())
        parts = []
        # A file at a time: the names of functions, repeated for each label, are most of what is read.
        for batch in self.batches("labels", "instance_id", "family", "function", "is_positive"):
            label = pc.binary_join_element_wise(batch.column("family"), batch.column("function"), "/")
            columns = (batch.column("instance_id"), pc.index_in(label, value_set=places), batch.column("is_positive"))
            parts.append([column.to_numpy() for column in columns])
        instance, function, is_positive = (np.concatenate(column) for column in zip(*parts, strict=True))
        return instance, function, is_positive

    @cached_property
    def _text_id(self) -> NDArray[np.int64]:
        """The text of every instance, by its id."""
        text: NDArray[np.int64] = self.read("instances", "text_id").column(0).to_numpy()
        return text

    def clusters(self, instance_id: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Return the cluster of each instance, by text, by group of texts and by word; instances as in `label_index`.

        The word is the characters of the span, casefolded: no lemma, which is outside the digests of corpus and run.
        """
        groups = self.read("texts", "split_group").column(0).combine_chunks().dictionary_encode()
        group = pc.fill_null(groups.indices, -1).to_numpy()
        group = np.where(group < 0, len(groups.dictionary) + np.arange(len(group)), group)
        text = self._text_id[instance_id]
        return {"text": text, "group": group[text], "word": self._surfaces[0][instance_id]}

    @cached_property
    def _surfaces(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """A code of the characters of every span, as of `words`, and the half of each of these words."""
        codes, words = self._coded([None] * len(self.instances().instance_id))
        return codes, np.array([half_of(word) for word in words], np.uint8)

    def words(self) -> NDArray[np.int64]:
        """Return by id a code of each instance's word, ``~place`` of the lemma or else the span, or its id."""
        return self._coded(self.read("instances", "lemma").column(0).to_pylist())[0]

    def _coded(self, lemmas: Sequence[str | None]) -> tuple[NDArray[np.int64], list[str]]:
        instances = self.instances()
        words = np.arange(len(instances.instance_id))
        codes: dict[str, int] = {}
        texts = enumerate(self.texts())
        text_id, text = -1, ""
        columns = (instances.instance_id, instances.text, instances.start_char, instances.end_char)
        for instance, of_text, start, end in zip(*(column.tolist() for column in columns), strict=True):
            word = lemmas[instance]
            if word is None and start == start:  # NaN for a whole text
                while text_id < of_text:
                    text_id, text = next(texts)
                word = text[int(start) : int(end)]
            if word is not None:
                words[instance] = ~codes.setdefault(word.casefold(), len(codes))
        return words, list(codes)

    def label_index(
        self, instance_id: NDArray[np.int64], halves: Halves = "text", *, may_lack: bool = False
    ) -> LabelIndex:
        """Return the labels of instances, given by their ids [instances], in that order.

        Halves by word put a span where a hash of its word says, a whole text where its text is. A function without
        positives or without negatives among the instances is an `IngestError` unless it `may_lack` them.
        """
        functions = self.functions()
        instance, function, is_positive = self.labels()
        place = np.full(1 + max(int(instance.max()), int(instance_id.max())), -1)
        place[instance_id] = np.arange(len(instance_id))
        instance = place[instance]
        measured = instance >= 0
        in_b = self.read("texts", "half").column("half").to_numpy() == "b"
        half = in_b.astype(np.uint8)[self._text_id[instance_id]]
        if halves == "word":
            words, half_of_word = self._surfaces
            is_span = words[instance_id] < 0
            if not is_span.any():
                raise IngestError(f"halves by word need spans, and corpus {self.name} has whole texts alone")
            half[is_span] = half_of_word[~words[instance_id[is_span]]]
        index = LabelIndex.build(
            [(str(row["family"]), str(row["function"])) for row in functions],
            is_rest=np.array([row["negatives"] == "rest" for row in functions]),
            half=half,
            instance=instance[measured],
            function=function[measured],
            is_positive=is_positive[measured].astype(np.uint8),
        )
        for (family, name), (positive, evaluated) in zip(index.functions, index.counts()[:, 0].tolist(), strict=True):
            if not may_lack and not 0 < positive < evaluated:
                measured_as = f"{positive} are positive and {evaluated - positive} negative for {family}/{name}"
                problem = f"corpus {self.name}: of {len(instance_id)} measured instances, {measured_as}"
                raise IngestError(f"{problem}; both are needed (texts cut too short?)")
        return index
