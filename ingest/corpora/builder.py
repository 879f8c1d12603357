"""From a source of labelled texts to the five tables of a corpus.

Texts and instances are written as they are read; only digests and labels of them stay in memory (some 350 bytes a
text, however long it is). Nothing is visible in the store before the last row is checked.
"""

import hashlib
import itertools
import json
import os
import re
import reprlib
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import get_args

import pyarrow as pa

from ...errors import IngestError, StoreError, check_known, plural
from ...schema.conformance import conform
from ...schema.job import Job
from ...schema.names import corpus_job
from ...schema.store import Store
from ...schema.tables import table
from .instance import Instance, Negatives, Source, half_of
from .labels import Labels
from .stored import StoredCorpus

_PART_ROWS = 122_880
_PART_CHARACTERS = 32 * 2**20
_PART_LABELS = 8 * _PART_ROWS
# A small file may well lack one text; more than a few of a large one are a sign of a wrong column or format.
_DEFECTS_FORGIVEN = 1
_DEFECTS_SHARE = 0.01
# Columns of a text, and of an instance, that define a measurement. Lemma and stratum, which follow, do not: a corpus
# that gains them is still the same, and so are the runs on it.
_DIGESTED_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """What a source became in the store."""

    corpus: str
    # Digest of its texts, instances, labels and functions: 64 hex digits. The order of texts and instances enters it,
    # as it makes their ids; the name and the descriptions do not.
    corpus_sha256: str
    n_texts: int
    n_instances: int
    n_functions: int
    dropped: Mapping[str, int]  # what the reader and the builder excluded or altered: count by reason
    is_new: bool  # False if the store already held exactly this corpus, so that nothing was written

    def describe(self) -> str:
        """Return the report as lines: what the corpus holds, then what was excluded, by reason."""
        held = f"{plural(self.n_instances, 'instance')} of {plural(self.n_texts, 'text')}"
        note = "" if self.is_new else "; already in the store, nothing done"
        lines = [f"corpus {self.corpus}: {held}, {plural(self.n_functions, 'function')}{note}"]
        return "\n".join(lines + [f"{count:>9,}  {reason}" for reason, count in self.dropped.items()])


def build_corpus(
    source: Source,
    name: str,
    *,
    store: str | os.PathLike[str],
    description: str | None = None,
    licence: str | None = None,
) -> CorpusReport:
    """Write a labelled corpus to a store.

    Texts and instances are numbered in the order read. A text is one row of ``texts`` for each target it has. An
    instance with the text and span of an earlier one is excluded and counted; where negatives are explicit, labels that
    it adds go to the earlier one. The half of a text, ``a`` or ``b``, is decided by a hash of its split group, or of
    the text where it has none. Empty texts are excluded and counted.

    Parameters
    ----------
    source
        The corpus, as a reader returns it; read once.
    name
        Its name in the store: at most 200 letters, digits, ``-``, ``_`` and ``.``.
    store
        The store's folder; made if it does not exist.
    description, licence
        What the corpus is, and its licence; None for what the source says.

    Raises
    ------
    IngestError
        If the source is empty; holds a span outside its text, a malformed label, one text in two split groups or a
        function of one class only; or has more than one defect, such as an empty text, and more than 1% of them. The
        store is unchanged.
    StoreError
        If the name already holds another corpus, or the store cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> texts = [Instance("A goal.", {"task/sport-tech": True}), Instance("A chip.", {"task/sport-tech": False})]
    >>> source = Source(texts, "two texts", licence=None, origin="example", negatives="explicit")
    >>> with tempfile.TemporaryDirectory() as store:
    ...     print(build_corpus(source, "mine", store=store).describe())
    corpus mine: 2 instances of 2 texts, 1 function
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        rule = "use letters, digits, '-', '_' and '.' only, at most 200 of them"
        raise IngestError(f"corpus name {_shown(name)}: {rule}")
    check_known("negatives", [source.negatives], get_args(Negatives))
    source = replace(source, description=description or source.description, licence=licence or source.licence)
    folder, job_name = Store(store), corpus_job(name)
    if folder.commit(job_name) is None:
        with folder.job(job_name, kind="corpus", resume=False) as job:
            report = _Build(source, name, job).report()
            job.commit()
        return report
    build, stored = _Build(source, name, None), StoredCorpus(folder, name)
    report = build.report()
    if stored.sha256 != report.corpus_sha256:
        digests = f"sha256 {stored.sha256[:12]}…, this is {report.corpus_sha256[:12]}…"
        problem = f"corpus {name!r} in {folder.path} holds other content ({digests})"
        raise StoreError(f"{problem}; add this one under another name")
    alike = stored.read("instances", "lemma", "stratum").columns
    n_lacking = build.n_alike - sum(len(column) - column.null_count for column in alike)
    lacking = {"lemma or stratum that is not stored: add it under another name": n_lacking} if n_lacking > 0 else {}
    return replace(report, is_new=False, dropped={**report.dropped, **lacking})


class _Build:
    """One pass over a source, which digests its rows and, if there is a job, writes them."""

    def __init__(self, source: Source, corpus: str, job: Job | None) -> None:
        self.source = source
        self.corpus = corpus
        self.job = job
        self.labels = Labels(source.negatives)
        self.rows: dict[bytes, int] = {}  # by digest of the text; further rows of a text by that and their target's
        self.targets = array("Q")  # [texts], digest
        self.groups = array("Q")  # [texts], digest
        self.instances: dict[int, int] = {}  # by text and span
        self.pending: dict[str, list[tuple[object, ...]]] = {"texts": [], "instances": []}
        self.pending_characters = 0
        self.n_alike = 0  # lemmas and strata
        self.parts: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
        self.digests = {"texts": hashlib.sha256(), "instances": hashlib.sha256()}

    def report(self) -> CorpusReport:
        """Read everything, write the tables, and return what the source became."""
        self._read()
        source, reading = self.source, self.source.reading
        functions = self.labels.function_rows(self.corpus, source)
        self._write("functions", functions)
        labels = self.labels.label_rows(self.corpus)
        for start in range(0, labels.num_rows, _PART_LABELS):
            self._write("labels", labels.slice(start, _PART_LABELS))
        digests = (self.digests["texts"].digest(), self.digests["instances"].digest(), self.labels.digest())
        digest = hashlib.sha256(b"".join((f"corpus/{source.negatives}".encode(), *digests)))
        report = CorpusReport(
            corpus=self.corpus,
            corpus_sha256=digest.hexdigest(),
            n_texts=len(self.groups),
            n_instances=len(self.instances),
            n_functions=functions.num_rows,
            dropped=dict(sorted((reading.dropped + reading.defects).items())),
            is_new=True,
        )
        row = {name: getattr(report, name) for name in ("corpus", "corpus_sha256", "n_texts", "n_instances")}
        row |= {"description": source.description, "licence": source.licence, "source": source.origin}
        row |= {"dropped": json.dumps(report.dropped, ensure_ascii=False)}
        self._write("corpora", conform("corpora", [row]))
        return report

    def _read(self) -> None:
        """Read all instances, and write texts and instances in parts."""
        reading, n_added = self.source.reading, 0
        for number, instance in enumerate(self.source.instances, start=1):
            if not reading.file:
                reading.index = number
            if isinstance(instance.text, str) and not instance.text.strip():
                reading.add_defect("empty text")
                continue
            n_added += 1
            try:  # not `located`, which is slow for each of millions
                self._add(instance)
            except IngestError as error:
                raise reading.error(error) from error
            if self.pending_characters >= _PART_CHARACTERS or len(self.pending["texts"]) >= _PART_ROWS:
                self._flush("texts")
            if len(self.pending["instances"]) >= _PART_ROWS:
                self._flush("instances")
        if not self.instances:
            excluded = sorted((reading.dropped + reading.defects).items())
            reasons = "; ".join(f"{count} excluded: {reason}" for reason, count in excluded)
            raise IngestError(f"{self.source.origin}: no instances" + (f" ({reasons})" if reasons else ""))
        n_defects = reading.defects.total()
        n_rows = n_added + n_defects
        if n_defects > max(_DEFECTS_FORGIVEN, _DEFECTS_SHARE * n_rows):
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(reading.defects.items()))
            problem = f"{n_defects:,} of {n_rows:,} instances say nothing, more than {_DEFECTS_SHARE:.0%} ({reasons})"
            raise IngestError(f"{self.source.origin}: {problem}; the first at {reading.first_defect}")
        self._flush("texts")
        self._flush("instances")

    def _add(self, instance: Instance) -> None:
        _check_instance(instance)
        codes = self.labels.encode(instance.labels)
        text_id = self._text_id(instance)
        # One integer for text and span, of which none ends at 0: a tuple would take four times the memory.
        key = (text_id << 64) | ((instance.start or 0) << 32) | (instance.end or 0)
        new = len(self.instances)
        instance_id = self.instances.setdefault(key, new)
        if instance_id != new:
            self.source.reading.dropped[self.labels.merge(instance_id, codes)] += 1
            return
        self.labels.append(codes)
        alike = (instance.lemma or None, instance.stratum or None)
        self.pending["instances"].append((new, text_id, instance.start, instance.end, instance.source_id, *alike))
        self.n_alike += sum(map(bool, alike))

    def _text_id(self, instance: Instance) -> int:
        """Return the number of the instance's text, which is pending where it is new."""
        digest = hashlib.blake2b(instance.text.encode(), digest_size=16).digest()
        target, group = _short_digest(instance.target), _short_digest(instance.split_group)
        new = len(self.groups)
        row = self.rows.setdefault(digest, new)
        if row != new and self.groups[row] != group:
            problem = f"this text was read before in another split group, this is {instance.split_group!r}"
            raise IngestError(f"{problem}: {_shown(instance.text)}")
        if row != new and self.targets[row] != target:
            row = self.rows.setdefault(digest + target.to_bytes(8), new)
        if row == new:
            self.targets.append(target)
            self.groups.append(group)
            half = "ab"[half_of(instance.text if instance.split_group is None else instance.split_group)]
            self.pending["texts"].append((row, instance.text, instance.target, instance.split_group, half))
            self.pending_characters += len(instance.text) + len(instance.target or "")
        return row

    def _flush(self, name: str) -> None:
        """Digest and write the pending rows of a table, and forget them."""
        rows = self.pending[name]
        if not rows:
            return
        for row in rows:
            self.digests[name].update(json.dumps(row[:_DIGESTED_COLUMNS], separators=(",", ":")).encode())
        columns = dict(zip(table(name).column_names[1:], zip(*rows, strict=True), strict=True))
        data = conform(name, columns, corpus=self.corpus)
        rows.clear()
        self.pending_characters = 0 if name == "texts" else self.pending_characters
        self._write(name, data)

    def _write(self, name: str, rows: pa.Table) -> None:
        if self.job is not None:
            self.job.write(name, rows, part=next(self.parts[name]))


def _check_instance(instance: Instance) -> None:
    text, start, end = instance.text, instance.start, instance.end
    for what in ("text", "target", "source_id", "split_group", "lemma", "stratum"):
        value = getattr(instance, what)
        if value is None and what != "text":
            continue
        if not isinstance(value, str):
            raise IngestError(f"{what} {reprlib.repr(value)} is no text")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            why = "half a surrogate pair, which is not valid Unicode"
            raise IngestError(f"{what} holds {why}: {_shown(value)}") from error
    if not isinstance(instance.labels, Mapping):
        needed = "a mapping of family/function to true or false is needed"
        raise IngestError(f"labels {reprlib.repr(instance.labels)}: {needed}")
    if end is None and start is not None:
        raise IngestError(f"the span has a start ({start}) but no end")
    if start is None and end is not None:
        raise IngestError(f"the span has an end ({end}) but no start")
    if start is not None and end is not None and not 0 <= start < end <= len(text):
        problem = f"the span {reprlib.repr(start)}-{reprlib.repr(end)} is not inside the text of {len(text)} characters"
        raise IngestError(f"{problem} (0 <= start < end <= length): {_shown(text)}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _short_digest(text: str | None) -> int:
    """Return 64 bits that stand for `text`; 0 for None."""
    return 0 if text is None else int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) | 1
