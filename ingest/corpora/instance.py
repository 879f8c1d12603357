"""What every reader yields: labelled texts and spans."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Defects", "Instance", "Negatives", "Position", "Source"]

Negatives = Literal["rest", "explicit"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One labelled text, or span of a text.

    Parameters
    ----------
    text
        The whole text; instances that are spans of one text repeat it.
    labels
        ``"family/function"`` to whether the instance has the function. What is not listed is negative, or
        outside the function's evaluation, as the source's `negatives` says.
    start, end
        The span in characters, half open; None for the whole text.
    target
        Target text of sequence-to-sequence or choice data.
    source_id
        The instance's id in its source.
    split_group
        Texts of one group fall in the same half (a subject, a document); None: each text for itself.
    """

    text: str
    labels: Mapping[str, bool]
    start: int | None = None
    end: int | None = None
    target: str | None = None
    source_id: str | None = None
    split_group: str | None = None


@dataclass(slots=True)
class Position:
    """Where reading stands, so that whoever finds a fault, reader or builder, can say where it is.

    The reader moves it before it yields an instance; it is quoted in front of errors.

    Parameters
    ----------
    file
        File or data set, as the user named it.
    unit
        What `index` counts: line, row, sentence, …
    index
        Index of the last one read, from 1; 0 when the file as a whole is meant.
    """

    file: str = ""
    unit: str = "row"
    index: int = 0

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.index}" if self.index else self.file


@dataclass(slots=True)
class Defects:
    """What of a source says nothing, such as an empty text: left out, counted by reason, and limited by the builder.

    Parameters
    ----------
    counts
        How often, by reason.
    first
        Place and reason of the first; empty if there is none.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def add(self, reason: str, place: object) -> None:
        """Count one, found at a place such as a `Position`."""
        self.counts[reason] += 1
        self.first = self.first or f"{place}: {reason}"


@dataclass(frozen=True, slots=True)
class Source:
    """A labelled corpus about to be read.

    Parameters
    ----------
    instances
        The instances; read once, in order, as a stream.
    description
        What the corpus is, one line.
    licence
        Its licence, None when unknown.
    origin
        Reader and file or folder name, such as ``"semcor: semcor3.0"``; no absolute path.
    negatives
        Whether instances without a label of a function count as its negatives.
    dropped
        What the reader leaves out by design, or alters, counted by reason; it grows while `instances` is read.
    descriptions
        ``"family/function"`` to one line of meaning, where there is more to say than the name; it may grow
        while `instances` is read.
    position
        Where reading stands.
    defects
        What the reader leaves out because it says nothing; it grows while `instances` is read.
    """

    instances: Iterable[Instance]
    description: str
    licence: str | None
    origin: str
    negatives: Negatives
    dropped: Counter[str] = field(default_factory=Counter)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    position: Position = field(default_factory=Position)
    defects: Defects = field(default_factory=Defects)
