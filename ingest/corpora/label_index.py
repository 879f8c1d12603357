"""A corpus's labels, laid out for the scoring kernel: by instance, in the order the instances were run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import IngestError

__all__ = ["FunctionCounts", "LabelIndex"]


@dataclass(frozen=True, slots=True)
class FunctionCounts:
    """Instances behind one function's scores, over all and over each half."""

    n_positive: int
    n_negative: int
    n_positive_half: tuple[int, int]
    n_negative_half: tuple[int, int]


@dataclass(frozen=True, slots=True)
class LabelIndex:
    """Sparse labels of instances, compressed by instance.

    Parameters
    ----------
    functions
        ``(family, function)`` of each function index, sorted.
    is_rest
        Whether unlabelled instances are the function's negatives. [functions]
    half
        0 for half a, 1 for half b. [instances]
    indptr
        Instance i's labels are entries ``indptr[i]:indptr[i + 1]``. [instances + 1]
    function
        Function index of each entry. [entries]
    is_positive
        1 or 0; entries of ``rest`` functions are positive. [entries]
    """

    functions: tuple[tuple[str, str], ...]
    is_rest: NDArray[np.bool_]
    half: NDArray[np.uint8]
    indptr: NDArray[np.int64]
    function: NDArray[np.int32]
    is_positive: NDArray[np.uint8]

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
        """Compress labels given as one ``(instance, function, is_positive)`` an entry, in any order.

        Raises
        ------
        IngestError
            If an entry names an instance or function that is not there.
        """
        n_instances = len(half)
        if len(instance) and not (
            instance.min() >= 0
            and instance.max() < n_instances
            and function.min() >= 0
            and function.max() < len(functions)
        ):
            raise IngestError(f"labels name instances or functions beyond {n_instances} and {len(functions)}")
        # A negative entry of a rest function says nothing that its absence does not.
        keep = (is_positive == 1) | ~is_rest[function]
        instance, function, is_positive = instance[keep], function[keep], is_positive[keep]
        order = np.argsort(instance, kind="stable")
        indptr = np.zeros(n_instances + 1, dtype=np.int64)
        np.cumsum(np.bincount(instance, minlength=n_instances), out=indptr[1:])
        return cls(
            functions=tuple(functions),
            is_rest=np.ascontiguousarray(is_rest, dtype=np.bool_),
            half=np.ascontiguousarray(half, dtype=np.uint8),
            indptr=indptr,
            function=np.ascontiguousarray(function[order], dtype=np.int32),
            is_positive=np.ascontiguousarray(is_positive[order], dtype=np.uint8),
        )

    @property
    def n_instances(self) -> int:
        """How many instances are labelled."""
        return len(self.half)

    def packed(self) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int32]]:
        """Return the labels as the kernel reads them.

        Sorted activations visit instances at random, where each word looked up may be a cache miss. So an instance is
        one word that is sorted along with its activation, and instances with the same single label share a row of
        labels, so that the rows visited most stay in the cache.

        Returns
        -------
        words
            Row of labels << 1 | half. [instances]
        starts
            Row r's labels are ``entries[starts[r]:starts[r + 1]]``. [rows + 1]
        entries
            Function << 1 | is_positive.
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
        return ((row << 1) | self.half).astype(np.uint32), starts.astype(np.int64), entries.astype(np.int32)

    def dense(self, instances: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return what each function says of some instances.

        Parameters
        ----------
        instances
            Places of the instances, in the order wanted.

        Returns
        -------
        labels
            1 positive, 0 negative, -1 outside the function's evaluation. [functions, instances]
        """
        labels = np.repeat(np.where(self.is_rest, 0, -1).astype(np.int8)[:, None], len(instances), axis=1)
        counts = np.diff(self.indptr)[instances]
        column = np.repeat(np.arange(len(instances)), counts)
        entry = np.repeat(self.indptr[:-1][instances] - (np.cumsum(counts) - counts), counts) + np.arange(len(column))
        labels[self.function[entry], column] = self.is_positive[entry]
        return labels

    def counts(self) -> NDArray[np.int64]:
        """Return positives and evaluated instances by function: over all, half a, half b.

        Returns
        -------
        array
            ``[functions, 3, 2]``; the last axis is (positive, evaluated).
        """
        n_functions = len(self.functions)
        entry_half = self.half[np.repeat(np.arange(self.n_instances), np.diff(self.indptr))]
        counts = np.zeros((n_functions, 3, 2), dtype=np.int64)
        for half in (0, 1):
            inside = entry_half == half
            positive = inside & (self.is_positive == 1)
            counts[:, 1 + half, 0] = np.bincount(self.function[positive], minlength=n_functions)
            evaluated = np.bincount(self.function[inside], minlength=n_functions)
            counts[:, 1 + half, 1] = np.where(self.is_rest, int((self.half == half).sum()), evaluated)
        counts[:, 0] = counts[:, 1] + counts[:, 2]
        return counts

    def function_counts(self) -> tuple[FunctionCounts, ...]:
        """Return the counts as values, one a function."""
        found = []
        for positive, evaluated in self.counts().transpose(0, 2, 1).tolist():
            negative = [total - some for total, some in zip(evaluated, positive, strict=True)]
            found.append(
                FunctionCounts(positive[0], negative[0], (positive[1], positive[2]), (negative[1], negative[2]))
            )
        return tuple(found)
