"""The labels of a corpus while it is read: compact arrays, and what they come to by function."""

import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from ...errors import IngestError
from ...schema.conformance import arrow_schema
from ...schema.tables import table
from .instance import Negatives

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Labels", "Outcome", "split_label"]

Outcome = Literal["same", "merged", "contradicting"]


def split_label(label: str) -> tuple[str, str]:
    """Return family and function of a label; the first slash divides them.

    Raises
    ------
    IngestError
        If the label is not of the form family/function, or the function is called ``*``.

    Examples
    --------
    >>> split_label("grammar/upos.NOUN")
    ('grammar', 'upos.NOUN')
    """
    family, slash, function = label.partition("/")
    if not (slash and family and function and family == family.strip() and function == function.strip()):
        raise IngestError(f"label {label!r} is not of the form family/function, such as 'task/sport'")
    if function == "*":
        raise IngestError(f"label {label!r}: * stands for all functions of a family and cannot name one")
    if not label.isprintable():
        raise IngestError(f"label {label!r} holds a character that cannot be printed")
    return family, function


class Labels:
    """The labels of the instances read so far: 5 bytes each, and 8 an instance.

    A function is a code, in the order met; instances are numbered in the order appended.
    """

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._functions = array("i")  # [labels], code
        self._values = bytearray()  # [labels], 0 or 1
        self._starts = array("q", [0])  # [instances + 1], where the labels of an instance start
        self._merged: dict[int, dict[int, bool]] = {}  # what later duplicates added, by instance

    def encode(self, labels: Mapping[str, bool], *, negatives: Negatives) -> dict[int, bool]:
        """Return labels by function code; where unlabelled means negative, the positive ones only.

        Raises
        ------
        IngestError
            If a label is not of the form family/function.
        """
        codes = {}
        for label, is_positive in labels.items():
            code = self._codes.get(label)
            if code is None:
                split_label(label)
                code = self._codes[label] = len(self._codes)
            if is_positive or negatives == "explicit":
                codes[code] = is_positive
        return codes

    def append(self, codes: Mapping[int, bool]) -> None:
        """Add the labels of the next instance."""
        self._functions.extend(codes)
        self._values.extend(codes.values())
        self._starts.append(len(self._functions))

    def merge(self, instance_id: int, codes: Mapping[int, bool], *, negatives: Negatives) -> Outcome:
        """Add to an instance what a duplicate of it is labelled with, unless the two contradict each other.

        Where unlabelled means negative, any difference is a contradiction.
        """
        start, end = self._starts[instance_id], self._starts[instance_id + 1]
        held = dict(zip(self._functions[start:end], map(bool, self._values[start:end]), strict=True))
        held |= self._merged.get(instance_id, {})
        if negatives == "rest":
            return "same" if held == codes else "contradicting"
        if any(held.get(code, is_positive) != is_positive for code, is_positive in codes.items()):
            return "contradicting"
        added = {code: is_positive for code, is_positive in codes.items() if code not in held}
        if not added:
            return "same"
        self._merged.setdefault(instance_id, {}).update(added)
        return "merged"

    def label_rows(self, corpus: str) -> pa.Table:
        """Return the rows of table ``labels``, sorted by instance, family and function."""
        names, instances, ranks, values = self._sorted()
        places = pa.array(ranks, pa.int32())
        return pa.table(
            {
                "corpus": _encoded([corpus], pa.array(np.zeros(len(ranks), np.int32))),
                "instance_id": pa.array(instances, pa.int64()),
                "family": _encoded([family for family, _ in names], places),
                "function": _encoded([function for _, function in names], places),
                "is_positive": pa.array(values, pa.bool_()),
            }
        )

    def digest(self) -> bytes:
        """Return the SHA-256 of all labels, in their order in the table."""
        names, instances, ranks, values = self._sorted()
        digest = hashlib.sha256(json.dumps(names).encode())
        for column in (instances.astype("<i8"), ranks.astype("<i4"), values.astype("u1")):
            digest.update(column.tobytes())
        return digest.digest()

    def function_rows(self, corpus: str, *, negatives: Negatives, descriptions: Mapping[str, str]) -> pa.Table:
        """Return the rows of table ``functions``, sorted by family and function.

        Raises
        ------
        IngestError
            If there is no function, or one has no positive or no negative instance.
        """
        if not self._codes:
            raise IngestError("no instance has a label")
        n_functions = len(self._codes)
        _, functions, values = self._columns()
        n_positive = np.bincount(functions[values], minlength=n_functions)
        if negatives == "rest":
            n_negative = len(self._starts) - 1 - n_positive
        else:
            n_negative = np.bincount(functions[~values], minlength=n_functions)
        rows = []
        faults = []
        for label, code in sorted(self._codes.items(), key=lambda item: split_label(item[0])):
            family, function = split_label(label)
            positive, negative = int(n_positive[code]), int(n_negative[code])
            if not positive or not negative:
                faults.append(f"{label} ({positive} positive, {negative} negative)")
                continue
            rows.append(
                {
                    "corpus": corpus,
                    "family": family,
                    "function": function,
                    "n_positive": positive,
                    "n_negative": negative,
                    "prevalence": positive / (positive + negative),
                    "negatives": negatives,
                    "description": descriptions.get(label),
                }
            )
        if faults:
            shown = ", ".join(faults[:5]) + (f" and {len(faults) - 5} more" if len(faults) > 5 else "")
            raise IngestError(f"a function needs positive and negative instances: {shown}")
        return pa.Table.from_pylist(rows, schema=arrow_schema(table("functions")))

    def _sorted(
        self,
    ) -> "tuple[list[tuple[str, str]], NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]":
        """Return the sorted names, and of every label, sorted: instance, place of its name, value."""
        by_name = sorted((split_label(label), code) for label, code in self._codes.items())
        places = np.empty(len(by_name), np.int32)  # [functions], from code to place
        places[[code for _, code in by_name]] = np.arange(len(by_name), dtype=np.int32)
        instances, functions, values = self._columns()
        ranks = places[functions]
        order = np.lexsort((ranks, instances))
        return [name for name, _ in by_name], instances[order], ranks[order], values[order]

    def _columns(self) -> "tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]":
        """Return instance, function code and value of every label, those of merged duplicates last."""
        starts: NDArray[np.int64] = np.array(self._starts, np.int64)
        n_labels = starts[1:] - starts[:-1]
        merged = [(each, code, value) for each, added in self._merged.items() for code, value in added.items()]
        return (
            np.concatenate(
                [np.repeat(np.arange(len(n_labels)), n_labels), np.array([each for each, _, _ in merged], np.int64)]
            ),
            np.concatenate([np.array(self._functions, np.int32), np.array([code for _, code, _ in merged], np.int32)]),
            np.concatenate([np.array(self._values, np.bool_), np.array([value for _, _, value in merged], np.bool_)]),
        )


def _encoded(values: Sequence[str], places: pa.Array) -> pa.DictionaryArray:
    """Return ``values[places]``, dictionary-encoded with each value once."""
    encoded = pa.array(values, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.take(places), encoded.dictionary)
