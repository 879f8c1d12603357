"""Labels: their names, in columns while a corpus is built, and compressed by instance for the scoring kernel."""

import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import IngestError, joined
from ...schema.conformance import conform
from .instance import Negatives, Source


def split_label(label: str) -> tuple[str, str]:
    """Return family and function of a label, such as ``grammar/upos.NOUN``; a malformed label is an `IngestError`."""
    family, slash, function = label.partition("/")
    if not (slash and family and function and family == family.strip() and function == function.strip()):
        raise IngestError(f"label {label!r} is not of the form family/function, such as 'task/sport'")
    if function == "*":
        raise IngestError(f"label {label!r}: * stands for all functions of a family and cannot name one")
    if not label.isprintable():
        raise IngestError(f"label {label!r} holds a character that cannot be printed")
    return family, function


class Labels:
    """The labels of the instances read so far, in 5 bytes a label and 8 an instance.

    A function is a code, in order of appearance; where `negatives` are the ``rest``, only positive labels are kept.
    """

    def __init__(self, negatives: Negatives) -> None:
        self._negatives = negatives
        self._codes: dict[str, int] = {}
        self._functions = array("i")  # [labels], code
        self._values = bytearray()  # [labels], 0 or 1
        self._starts = array("q", [0])  # [instances + 1], where the labels of an instance start
        self._merged: dict[int, dict[int, bool]] = {}  # what later duplicates added, by instance

    def encode(self, labels: Mapping[str, bool]) -> dict[int, bool]:
        """Return an instance's labels by function code; one not of the form family/function is an `IngestError`."""
        for label, value in labels.items():
            if label not in self._codes:
                split_label(label)
                self._codes[label] = len(self._codes)
            if not isinstance(value, bool | np.bool_):
                raise IngestError(
                    f"label {label!r} is {value!r}: true or false is needed, and of what is unknown no label"
                )
        is_explicit = self._negatives == "explicit"
        return {self._codes[label]: value for label, value in labels.items() if value or is_explicit}

    def append(self, codes: Mapping[int, bool]) -> None:
        """Add the labels of the next instance."""
        self._functions.extend(codes)
        self._values.extend(codes.values())
        self._starts.append(len(self._functions))

    def merge(self, instance_id: int, codes: Mapping[int, bool]) -> str:
        """Add a duplicate's labels to those of an instance unless they contradict; return what the duplicate was."""
        start, end = self._starts[instance_id], self._starts[instance_id + 1]
        known = dict(zip(self._functions[start:end], map(bool, self._values[start:end]), strict=True))
        known |= self._merged.get(instance_id, {})
        # Where unlabelled means negative, any difference is a contradiction.
        is_other = self._negatives == "rest" and known != codes
        if is_other or any(known.get(code, is_positive) != is_positive for code, is_positive in codes.items()):
            return "duplicate with contradicting labels"
        added = {code: is_positive for code, is_positive in codes.items() if code not in known}
        if not added:
            return "duplicate"
        self._merged.setdefault(instance_id, {}).update(added)
        return "duplicate with further labels, merged into the first"

    def label_rows(self, corpus: str) -> pa.Table:
        """Return the rows of table ``labels``, sorted by instance, family and function."""
        index = self._index
        # Equal names get one code, as Parquet readers expect.
        families, functions = (pa.array(names).dictionary_encode() for names in zip(*index.functions, strict=True))
        columns = {
            "instance_id": index.instance,
            "family": families.take(pa.array(index.function)),
            "function": functions.take(pa.array(index.function)),
            "is_positive": index.is_positive.astype(np.bool_),
        }
        return conform("labels", columns, corpus=corpus)

    def function_rows(self, corpus: str, source: Source) -> pa.Table:
        """Return the rows of table ``functions``, sorted by family and function."""
        functions = self._index.functions
        if not functions:
            raise IngestError(f"{source.origin}: no instance has a label")
        positives, evaluated = self._index.counts()[:, 0].T
        negatives = evaluated - positives
        faults = [
            f"{'/'.join(functions[place])} ({positives[place]} positive, {negatives[place]} negative)"
            for place in np.flatnonzero((positives == 0) | (negatives == 0))
        ]
        if faults:
            needed = "a function needs positive and negative instances"
            raise IngestError(f"{source.origin}: {needed}: {joined(faults, most=5)}")
        families, names = zip(*functions, strict=True)
        columns = {
            "family": families,
            "function": names,
            "n_positive": positives,
            "n_negative": negatives,
            "prevalence": positives / evaluated,
            "description": [source.descriptions.get("/".join(function)) for function in functions],
        }
        return conform("functions", columns, corpus=corpus, negatives=self._negatives)

    def digest(self) -> bytes:
        """Return the SHA-256 of all labels, in their order in the table."""
        index = self._index
        digest = hashlib.sha256(json.dumps(index.functions).encode())
        for column in (index.instance.astype("<i8"), index.function.astype("<i4"), index.is_positive):
            digest.update(column.tobytes())
        return digest.digest()

    @cached_property
    def _index(self) -> "LabelIndex":
        """All labels sorted by instance and function, without halves; asked for when all are read."""
        by_name = sorted((split_label(label), code) for label, code in self._codes.items())
        places = np.argsort([code for _, code in by_name]).astype(np.int32)  # [functions], from code to place
        starts: NDArray[np.int64] = np.array(self._starts, np.int64)
        n_labels = np.diff(starts)
        added = [(number, *label) for number, labels in self._merged.items() for label in labels.items()]
        merged = np.array(added, np.int64).reshape(-1, 3)
        instance = np.concatenate([np.repeat(np.arange(len(n_labels)), n_labels), merged[:, 0]])
        function = places[np.concatenate([np.array(self._functions, np.int32), merged[:, 1].astype(np.int32)])]
        is_positive = np.concatenate([np.array(self._values, np.uint8), merged[:, 2].astype(np.uint8)])
        by_function = np.argsort(function, kind="stable")
        return LabelIndex.build(
            [name for name, _ in by_name],
            is_rest=np.full(len(by_name), self._negatives == "rest"),
            half=np.zeros(len(n_labels), np.uint8),
            instance=instance[by_function],
            function=function[by_function],
            is_positive=is_positive[by_function],
        )


@dataclass(frozen=True, slots=True)
class LabelIndex:
    """Sparse labels of instances, compressed by instance, in the order the instances were run."""

    functions: tuple[tuple[str, str], ...]  # ``(family, function)`` of each function index, sorted
    is_rest: NDArray[np.bool_]  # whether unlabelled instances are the function's negatives [functions]
    half: NDArray[np.uint8]  # 0 for half a, 1 for half b [instances]
    indptr: NDArray[np.int64]  # instance i's labels are entries ``indptr[i]:indptr[i + 1]`` [instances + 1]
    function: NDArray[np.int32]  # function index of each entry [entries]
    is_positive: NDArray[np.uint8]  # 1 or 0; entries of ``rest`` functions are positive [entries]

    @classmethod
    def build(
        cls,
        functions: Sequence[tuple[str, str]],
        *,
        is_rest: NDArray[np.bool_],
        half: NDArray[np.uint8],
        instance: NDArray[np.int64],
        function: NDArray[np.int32],
        is_positive: NDArray[np.uint8],
    ) -> "LabelIndex":
        """Compress labels given as one ``(instance, function, is_positive)`` an entry, in any order."""
        n_instances = len(half)
        is_there = (instance >= 0) & (instance < n_instances) & (function >= 0) & (function < len(functions))
        if not is_there.all():
            raise IngestError(f"labels name instances or functions beyond {n_instances} and {len(functions)}")
        # A negative entry of a rest function says nothing that its absence does not.
        keep = (is_positive == 1) | ~is_rest[function]
        instance, function, is_positive = instance[keep], function[keep], is_positive[keep]
        order = np.argsort(instance, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(instance, minlength=n_instances))])
        return cls(tuple(functions), is_rest, half, indptr, function[order], is_positive[order])

    @classmethod
    def joined(cls, parts: "Sequence[LabelIndex]") -> "LabelIndex":
        """Return the functions of several indices of the same instances as one; names may repeat."""
        n_before = np.cumsum([0, *(len(part.functions) for part in parts)])
        return cls.build(
            [function for part in parts for function in part.functions],
            is_rest=np.concatenate([part.is_rest for part in parts]),
            half=parts[0].half,
            instance=np.concatenate([part.instance for part in parts]),
            function=np.concatenate([part.function + before for part, before in zip(parts, n_before, strict=False)]),
            is_positive=np.concatenate([part.is_positive for part in parts]),
        )

    @property
    def n_instances(self) -> int:
        """Number of instances."""
        return len(self.half)

    @property
    def instance(self) -> NDArray[np.int64]:
        """The instance of each label. [labels]."""
        return np.repeat(np.arange(self.n_instances), np.diff(self.indptr))

    def only(self, kept: NDArray[np.bool_]) -> "LabelIndex":
        """Return the labels of some of the functions, marked [functions]."""
        entry, place = kept[self.function], (np.cumsum(kept) - 1).astype(np.int32)
        functions = tuple(compress(self.functions, kept))
        indptr = np.concatenate([[0], np.cumsum(entry)])[self.indptr]
        function, is_positive = place[self.function[entry]], self.is_positive[entry]
        return LabelIndex(functions, self.is_rest[kept], self.half, indptr, function, is_positive)

    def packed(self) -> tuple[NDArray[np.uint32], NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]:
        """Return the labels as the kernel reads them: a word for every instance, and rows of labels.

        A word is ``row << 1 | half`` [instances]; row r's labels are ``entries[starts[r]:starts[r + 1]]``
        (starts [rows + 1]), and an entry is ``function << 1 | is_positive``.

        The kernel visits instances in the order of their activations, where every look-up may miss the cache: so a word
        is sorted along with its activation, and instances with the same single label share a row.
        """
        n_single = 2 * len(self.functions)
        n_labels = np.diff(self.indptr)
        codes = (self.function << 1) | self.is_positive
        several = n_labels > 1
        # A row for each single label, then one for no label, then one for each instance with several.
        row = np.full(self.n_instances, n_single, dtype=np.int64)
        row[n_labels == 1] = codes[self.indptr[:-1][n_labels == 1]]
        row[several] = n_single + 1 + np.arange(int(several.sum()))
        starts = np.concatenate([np.arange(n_single + 1), n_single + np.cumsum([0, *n_labels[several]])])
        entries = np.concatenate([np.arange(n_single, dtype=np.int32), codes[np.repeat(several, n_labels)]])
        # As few bytes as will do, for the same reason.
        row_type, entry_type = (np.min_scalar_type(size) for size in (max(len(entries), 1 << 16), n_single))
        return ((row << 1) | self.half).astype(np.uint32), starts.astype(row_type), entries.astype(entry_type)

    def dense(self, instances: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return the labels of instances at some places, [functions, instances]: 1, 0, or -1 if it is not evaluated."""
        labels = np.repeat(np.where(self.is_rest, 0, -1).astype(np.int8)[:, None], len(instances), axis=1)
        counts = np.diff(self.indptr)[instances]
        column = np.repeat(np.arange(len(instances)), counts)
        entry = np.repeat(self.indptr[:-1][instances] - (np.cumsum(counts) - counts), counts) + np.arange(len(column))
        labels[self.function[entry], column] = self.is_positive[entry]
        return labels

    def counts(self) -> NDArray[np.int64]:
        """Return how many instances are (positive, evaluated): of all, half a and half b [functions, 3, 2]."""
        key = 2 * self.function + np.repeat(self.half, np.diff(self.indptr))
        counted = [np.bincount(some, minlength=2 * len(self.functions)) for some in (key[self.is_positive == 1], key)]
        halves = np.stack(counted, axis=-1).reshape(-1, 2, 2)  # [functions, halves, 2]
        halves[self.is_rest, :, 1] = np.bincount(self.half, minlength=2)
        return np.concatenate([halves.sum(axis=1, keepdims=True), halves], axis=1)
