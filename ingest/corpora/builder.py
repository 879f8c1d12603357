"""From a stream of labelled texts to the five tables of a corpus.

Texts and instances are written as they come; of what was seen, only digests and labels stay in memory (some
350 bytes a text, however long it is). Nothing is visible in the store before the last row is checked.
"""

import hashlib
import json
import os
import re
import reprlib
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from ...errors import IngestError, StoreError
from ...schema import parquet
from ...schema.conformance import conform
from ...schema.names import corpus_job
from ...schema.store import Store
from ...schema.tables import table
from .instance import Instance, Source
from .labels import Labels

__all__ = ["CorpusReport", "build_corpus"]

_PART_ROWS = 122_880
_PART_CHARACTERS = 32 * 2**20
_PART_LABELS = 8 * _PART_ROWS
# A small file may well lack one text; more than a few of a large one are a sign of a wrong column or format.
_DEFECTS_FORGIVEN = 1
_DEFECTS_SHARE = 0.01

EMPTY = "empty text"
DUPLICATE = "duplicate"
CONTRADICTING = "duplicate with contradicting labels"
MERGED = "duplicate with further labels, merged into the first"


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """What became of a source.

    Parameters
    ----------
    corpus
        Name of the corpus.
    corpus_sha256
        Digest of its texts, instances, labels and functions: 64 hex digits. The name and the descriptions do not
        enter it; the order of texts and instances does, as it makes their ids.
    n_texts, n_instances, n_functions
        What it holds.
    dropped
        What was left out or altered, counted by reason, by the reader and by the builder.
    is_new
        False if the store already held exactly this corpus, so that nothing was written.
    """

    corpus: str
    corpus_sha256: str
    n_texts: int
    n_instances: int
    n_functions: int
    dropped: Mapping[str, int]
    is_new: bool

    def describe(self) -> str:
        """Return what was built as a few lines: what it holds, then what was left out, by reason."""
        lines = [
            f"corpus {self.corpus}: {self.n_instances:,} instances of {self.n_texts:,} texts, "
            f"{self.n_functions:,} functions" + ("" if self.is_new else "; already in the store, nothing done")
        ]
        lines += [f"{count:>9,}  {reason}" for reason, count in self.dropped.items()]
        return "\n".join(lines)


def build_corpus(source: Source, name: str, *, store: str | os.PathLike[str]) -> CorpusReport:
    """Write a labelled corpus to a store.

    Texts and instances are numbered in the order read. The same text (with the same target) is one row of
    ``texts`` however many instances it has. An instance that repeats an earlier one's text and span is dropped and
    counted; where negatives are explicit, what its labels add is merged into the earlier one. Half ``a`` or ``b``
    is a hash of the split group, or of the text where there is none. Empty texts are left out and counted.

    Parameters
    ----------
    source
        The corpus, read once.
    name
        Its name in the store: at most 200 letters, digits, ``-``, ``_`` and ``.``.
    store
        The store's folder; made if it does not exist.

    Raises
    ------
    IngestError
        If the source is empty, or holds a span outside its text, a malformed label, one text in two split groups,
        or a function of one class only, or if of what it holds more than one and more than 1% is an empty text or
        another defect (`Source.defects`); the store is unchanged.
    StoreError
        If the name already holds another corpus, or the store cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise IngestError(
            f"corpus name {_shown(name)}: use letters, digits, '-', '_' and '.' only, at most 200 of them"
        )
    folder, job_name = Store(store), corpus_job(name)
    if folder.commit(job_name) is None:
        with folder.job(job_name, kind="corpus", resume=False) as job:
            reading = _Reading(source, name, lambda table_name, rows, part: job.write(table_name, rows, part=part))
            report = reading.report(is_new=True)
            job.commit()
        return report
    report = _Reading(source, name, lambda table_name, rows, part: None).report(is_new=False)
    held = parquet.read(folder.files("corpora", job=job_name), ("corpus_sha256",)).column(0).to_pylist()
    if held != [report.corpus_sha256]:
        raise StoreError(
            f"corpus {name!r} in {folder.path} holds other content (sha256 {held[0][:12]}…, this is "
            f"{report.corpus_sha256[:12]}…); add this one under another name"
        )
    return report


class _Reading:
    """One pass over a source: what was seen so far, and the rows that wait to be written."""

    def __init__(self, source: Source, corpus: str, write: Callable[[str, pa.Table, int], None]) -> None:
        self.source = source
        self.corpus = corpus
        self.write = write
        self.labels = Labels()
        self.dropped: Counter[str] = Counter()
        # Digests of texts, never the texts: the first row of each text, and further rows with other targets.
        self.first_rows: dict[bytes, int] = {}
        self.rows_of_other_targets: dict[bytes, int] = {}
        self.targets = array("Q")  # [texts], digest
        self.groups = array("Q")  # [texts], digest
        self.instances: dict[int, int] = {}  # by text and span
        self.pending: dict[str, list[tuple[object, ...]]] = {"texts": [], "instances": []}
        self.pending_characters = 0
        self.parts: Counter[str] = Counter()
        self.digests = {"texts": hashlib.sha256(), "instances": hashlib.sha256()}

    def report(self, *, is_new: bool) -> CorpusReport:
        """Read everything, write the tables, and return what the source became."""
        self._read()
        try:
            functions = self.labels.function_rows(
                self.corpus, negatives=self.source.negatives, descriptions=self.source.descriptions
            )
        except IngestError as error:
            raise IngestError(f"{self.source.origin}: {error}") from error
        self._write("functions", functions)
        labels = self.labels.label_rows(self.corpus)
        for start in range(0, labels.num_rows, _PART_LABELS):
            self._write("labels", labels.slice(start, _PART_LABELS))
        report = CorpusReport(
            corpus=self.corpus,
            corpus_sha256=self._digest(),
            n_texts=len(self.groups),
            n_instances=len(self.instances),
            n_functions=functions.num_rows,
            dropped=dict(sorted((self.source.dropped + self.dropped + self.source.defects.counts).items())),
            is_new=is_new,
        )
        row = {
            "corpus": self.corpus,
            "corpus_sha256": report.corpus_sha256,
            "description": self.source.description,
            "licence": self.source.licence,
            "source": self.source.origin,
            "n_texts": report.n_texts,
            "n_instances": report.n_instances,
            "dropped": json.dumps(report.dropped, ensure_ascii=False),
        }
        self._write("corpora", conform("corpora", [row]))
        return report

    def _read(self) -> None:
        """Read all instances, writing texts and instances in parts."""
        source = self.source
        n_read = 0
        for n_read, instance in enumerate(source.instances, start=1):
            if not instance.text.strip():
                source.defects.add(EMPTY, str(source.position) or f"instance {n_read}")
                continue
            try:
                self._add(instance)
            except IngestError as error:
                raise IngestError(f"{str(source.position) or f'instance {n_read}'}: {error}") from error
            if self.pending_characters >= _PART_CHARACTERS or len(self.pending["texts"]) >= _PART_ROWS:
                self._flush("texts")
            if len(self.pending["instances"]) >= _PART_ROWS:
                self._flush("instances")
        self._check_defects(n_read)
        self._flush("texts")
        self._flush("instances")

    def _check_defects(self, n_read: int) -> None:
        """Refuse a source of which nothing is left, or too much left out as defective."""
        source, defects = self.source, self.source.defects
        if not self.instances:
            left_out = sorted((source.dropped + defects.counts).items())
            reasons = "; ".join(f"{count} left out: {reason}" for reason, count in left_out)
            raise IngestError(f"{source.origin}: no instances" + (f" ({reasons})" if reasons else ""))
        n_defects = defects.counts.total()
        n_rows = n_read - defects.counts[EMPTY] + n_defects  # empty texts are read as others are
        if n_defects > max(_DEFECTS_FORGIVEN, _DEFECTS_SHARE * n_rows):
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(defects.counts.items()))
            raise IngestError(
                f"{source.origin}: {n_defects:,} of {n_rows:,} instances say nothing, more than "
                f"{_DEFECTS_SHARE:.0%} ({reasons}); the first at {defects.first}"
            )

    def _add(self, instance: Instance) -> None:
        _check_instance(instance)
        codes = self.labels.encode(instance.labels, negatives=self.source.negatives)
        text_id, is_new_text = self._text_row(instance)
        # One integer for text and span: a tuple would take four times the memory.
        start, end = (-1, -1) if instance.start is None or instance.end is None else (instance.start, instance.end)
        key = (text_id << 64) | ((start + 1) << 32) | (end + 1)
        seen = self.instances.get(key)
        if seen is None:
            instance_id = self.instances[key] = len(self.instances)
            self.labels.append(codes)
            row = (instance_id, text_id, instance.start, instance.end, instance.source_id)
            self.pending["instances"].append(row)
        else:
            outcome = self.labels.merge(seen, codes, negatives=self.source.negatives)
            reason = {"same": DUPLICATE, "contradicting": CONTRADICTING, "merged": MERGED}[outcome]
            self.dropped[reason] += 1
        if is_new_text:
            half = _half(instance.text if instance.split_group is None else instance.split_group)
            self.pending["texts"].append((text_id, instance.text, instance.target, instance.split_group, half))
            self.pending_characters += len(instance.text) + len(instance.target or "")

    def _text_row(self, instance: Instance) -> tuple[int, bool]:
        """Return the text's row and whether it is new."""
        digest = _digest(instance.text)
        target, group = _short_digest(instance.target), _short_digest(instance.split_group)
        first = self.first_rows.get(digest)
        if first is not None:
            if self.groups[first] != group:
                raise IngestError(
                    f"this text was read before in another split group, this is {instance.split_group!r}: "
                    f"{_shown(instance.text)}"
                )
            if self.targets[first] == target:
                return first, False
            with_target = digest + target.to_bytes(8)
            row = self.rows_of_other_targets.get(with_target)
            if row is not None:
                return row, False
            self.rows_of_other_targets[with_target] = len(self.groups)
        else:
            self.first_rows[digest] = len(self.groups)
        self.targets.append(target)
        self.groups.append(group)
        return len(self.groups) - 1, True

    def _digest(self) -> str:
        digest = hashlib.sha256(f"corpus/{self.source.negatives}".encode())
        for part in (self.digests["texts"].digest(), self.digests["instances"].digest(), self.labels.digest()):
            digest.update(part)
        return digest.hexdigest()

    def _flush(self, name: str) -> None:
        """Write and digest the rows that wait, and forget them."""
        rows = self.pending[name]
        if not rows:
            return
        digest = self.digests[name]
        for row in rows:
            digest.update(json.dumps(row, separators=(",", ":")).encode())
        columns = dict(zip(table(name).column_names[1:], zip(*rows, strict=True), strict=True))
        data = conform(name, columns, corpus=self.corpus)
        rows.clear()
        if name == "texts":
            self.pending_characters = 0
        self._write(name, data)

    def _write(self, name: str, rows: pa.Table) -> None:
        self.write(name, rows, self.parts[name])
        self.parts[name] += 1


def _check_instance(instance: Instance) -> None:
    text, start, end = instance.text, instance.start, instance.end
    for what in ("text", "target", "source_id", "split_group"):
        value = getattr(instance, what)
        if value is not None and not _is_unicode(value):
            raise IngestError(f"{what} holds half a surrogate pair, which is not valid Unicode: {_shown(value)}")
    if (start is None) != (end is None):
        raise IngestError(
            f"the span has a start ({start}) but no end" if end is None else f"the span has an end ({end}) but no start"
        )
    if start is not None and end is not None and not 0 <= start < end <= len(text):
        raise IngestError(
            f"the span {reprlib.repr(start)}-{reprlib.repr(end)} is not inside the text of {len(text)} characters "
            f"(0 <= start < end <= length): {_shown(text)}"
        )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _short_digest(text: str | None) -> int:
    """Return 64 bits that stand for `text`; 0 for None."""
    return 0 if text is None else int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) | 1


def _half(group: str) -> str:
    return "ab"[hashlib.blake2b(group.encode(), digest_size=8).digest()[0] & 1]
