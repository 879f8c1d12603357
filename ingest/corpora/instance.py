"""What every reader returns: a source of labelled texts and spans, with an account of how it is read."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from ...errors import IngestError

Negatives = Literal["rest", "explicit"]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Instance:
    """One labelled text, or one labelled span of a text.

    Parameters
    ----------
    text
        The whole text; instances that are spans of one text repeat it.
    labels
        ``"family/function"`` to whether the instance has the function. The source's `negatives` says whether the
        instance is a negative of the functions that are not listed, or is not used to evaluate them.
    start, end
        The span in characters, half open; None for the whole text.
    target
        Target text of sequence-to-sequence or choice data.
    source_id
        The instance's id in its source.
    split_group
        Texts of one group (a subject, a document) fall in the same half; None makes the text a group of its own.
    lemma
        Lemma of the word that the span is; None if unknown, and the word is the characters of the span.
    stratum
        Class within which `read_shuffled` may be asked to permute labels, mostly the part of speech. Lemma and stratum
        say which instances are alike, not what is measured: they enter no digest.

    Examples
    --------
    >>> instance = Instance("The bank lent us money.", {"semantic/bank:money-river": True}, start=4, end=8)
    >>> instance.text[instance.start : instance.end]
    'bank'
    """

    text: str
    labels: Mapping[str, bool]
    start: int | None = None
    end: int | None = None
    target: str | None = None
    source_id: str | None = None
    split_group: str | None = None
    lemma: str | None = None
    stratum: str | None = None


def half_of(shared: str) -> int:
    """Return the half, 0 for a or 1 for b, of all instances that share a text, a split group or a word."""
    return hashlib.blake2b(shared.encode(), digest_size=8).digest()[0] & 1


@dataclass(slots=True)
class Reading:
    """Where a reader is in its files, and what was excluded so far; the reader updates it, the builder reports it."""

    file: str = ""  # file or data set being read, as the user named it
    unit: str = "instance"  # what `index` counts: line, row or instance
    index: int = 0  # number of the line, row or instance last read, from 1; 0 for the file as a whole
    encoding: str | None = None  # encoding of the files; None to detect that of each file
    dropped: Counter[str] = field(default_factory=Counter)  # what was excluded by design, or altered: count by reason
    defects: Counter[str] = field(default_factory=Counter)  # what says nothing, such as an empty text: few are forgiven
    first_defect: str = ""  # place and reason of the first defect

    @property
    def place(self) -> str:
        """The place in words, such as ``mine.csv, line 7``."""
        return ", ".join(filter(None, (self.file, f"{self.unit} {self.index}" if self.index else "")))

    def add_defect(self, reason: str, count: int = 1) -> None:
        """Count defects at the current place."""
        self.defects[reason] += count
        self.first_defect = self.first_defect or f"{self.place}: {reason}"

    def error(self, message: object) -> IngestError:
        """Return an error to raise, its message after the place."""
        return IngestError(f"{self.place}: {message}")

    @contextmanager
    def located(self) -> Iterator[None]:
        """Put the place in front of the message of an `IngestError` raised inside."""
        try:
            yield
        except IngestError as error:
            raise self.error(error) from error


@dataclass(frozen=True, slots=True)
class Source:
    """A labelled corpus that has not been read yet; `build_corpus` reads it, once.

    Parameters
    ----------
    instances
        The instances, read in order as a stream.
    description, licence
        What the corpus is, in one line, and its licence, None when unknown.
    origin
        Reader and name of the file or folder, such as ``"semcor: semcor3.0"``; never an absolute path.
    negatives
        With ``"rest"``, instances without a label of a function are its negatives; with ``"explicit"``, they are not
        used to evaluate it.
    descriptions
        ``"family/function"`` to one line of meaning, for functions whose name does not say it all; it may grow while
        `instances` is read.
    reading
        Place in the files, and counts of what is excluded; both change while `instances` is read.

    Examples
    --------
    >>> texts = [Instance("A goal.", {"task/sport-tech": True}), Instance("A chip.", {"task/sport-tech": False})]
    >>> Source(texts, "two texts", licence=None, origin="example", negatives="explicit").negatives
    'explicit'
    """

    instances: Iterable[Instance]
    description: str
    licence: str | None
    origin: str
    negatives: Negatives
    descriptions: Mapping[str, str] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)


def capped(
    items: Iterable[Item], cap: int | None, *, by: Callable[[Item], str], seed: int, reading: Reading, reason: str
) -> Iterator[Item]:
    """Yield at most `cap` items of every class, drawn at random, in the order they came; without a cap, all.

    `by` gives the class of an item. All items of a class are equally likely to be drawn (reservoir sampling),
    whatever the other classes hold, and only those drawn are in memory. `reading` counts the others as `reason`, and
    is back at the place of an item when that is yielded.
    """
    if cap is None:
        yield from items
        return
    reservoirs: dict[str, list[tuple[int, Item, str, int]]] = {}  # number of the item, the item, its file and index
    generators: dict[str, random.Random] = {}
    n_seen: Counter[str] = Counter()
    for number, item in enumerate(items):
        name = by(item)
        if name not in reservoirs:
            reservoirs[name], generators[name] = [], random.Random(f"{seed}/{name}")
        n_seen[name] += 1
        entry = (number, item, reading.file, reading.index)
        if len(reservoirs[name]) < cap:
            reservoirs[name].append(entry)
        elif (place := generators[name].randrange(n_seen[name])) < cap:
            reservoirs[name][place] = entry
    kept = [entry for reservoir in reservoirs.values() for entry in reservoir]
    if n_seen.total() > len(kept):
        reading.dropped[reason] += n_seen.total() - len(kept)
    for _, item, reading.file, reading.index in sorted(kept, key=lambda entry: entry[0]):
        yield item
