"""The union of stores, job by job: what two made alike is kept once, what they contradict each other in is refused."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import duckdb

from ..errors import SchemaError, StoreError, joined
from ..schema import parquet
from ..schema.commits import Commit
from ..schema.conformance import conform
from ..schema.identity import identifier
from ..schema.integrity import check_file
from ..schema.references import Job, jobs
from ..schema.store import Store
from ..schema.tables import TABLES
from .comparison import TOLERANCES, worst_difference
from .inventory import place

if TYPE_CHECKING:
    from ..schema.vocabulary import JobKind


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge committed.

    Parameters
    ----------
    n_jobs
        Jobs of all the stores together, each counted once.
    n_new
        Of these, committed now: the others were there.
    made_twice
        Jobs of which the stores hold several makings, equal but for times, devices and rounding. One is kept, and
        ``merged_copies`` names the others.
    """

    n_jobs: int
    n_new: int
    made_twice: tuple[str, ...]

    def describe(self) -> str:
        """Return what was done, in one line."""
        twice = f"; made more than once, and alike: {joined(self.made_twice)}" if self.made_twice else ""
        return f"{self.n_jobs:,} jobs, {self.n_new:,} committed now{twice}"


@dataclass(frozen=True, slots=True)
class _Copy:
    """A job as one of the stores holds it."""

    store: Store
    job: Job
    digest: str  # of its files
    n_lacking: int  # columns that hold text and are left out

    @property
    def commit(self) -> Commit:
        return self.job.commit

    @property
    def precedence(self) -> tuple[int, str, str, str]:
        """What decides between copies: most texts, the smallest digest, and of the same files the first committed."""
        return self.n_lacking, self.digest, self.commit.committed_at, repr(self.commit)


@dataclass(frozen=True, slots=True)
class _Record:
    """A row of ``merged_copies``, and when the copy that it is of was committed, as its own commit will say.

    So the record of a copy is the same to the byte whoever merges.
    """

    committed_at: str
    row: Mapping[str, object]


def merge_stores(stores: Sequence[str | os.PathLike[str]], *, into: str | os.PathLike[str]) -> MergeReport:
    """Merge stores into one that holds every job of each of them.

    A job that several hold byte for byte is kept once. Of one that was made several times, in two laboratories, keys,
    labels and counts must be equal and floats within `sharing.comparison.TOLERANCES`: the making with the smallest
    digest is kept, and the table ``merged_copies`` gets a row for each other. In what order stores are merged, and
    whether at once or one by one, makes no difference to the result. All is compared before anything is written; jobs
    are then committed one by one, what others refer to first. Killed, the same call goes on.

    Parameters
    ----------
    stores
        Folders of stores, which are not changed.
    into
        Folder of the merged store. If it is a store already, its jobs are merged too, and stay as they are.

    Raises
    ------
    StoreError
        If a store cannot be read, two contradict each other, a file is altered, or `into` cannot be written, or holds
        a making of a job that another would take the place of.

    Examples
    --------
    >>> neuronlake.merge_stores(["neuronlake-store"], into="merged").n_jobs
    4
    >>> neuronlake.merge_stores(["neuronlake-store", "merged"], into="merged").n_new
    0
    """
    target, sources = Store(into), [Store(path) for path in stores]
    for source in sources:
        source.require()
    own = {commit.job: _digest(commit) for commit in target.commits()}
    copies = _copies([*sources, target] if own else sources)
    _check_corpora(copies.values())
    kept = {name: min(group, key=lambda copy: copy.precedence) for name, group in copies.items()}
    tolerances = _tolerances(kept.values())
    others: list[_Copy] = []
    new = [copy for name, copy in kept.items() if name not in own]
    _check_files(new)
    for name, copy in kept.items():
        others += _equals(copy, copies[name], tolerances)
        if own.get(name, copy.digest) != copy.digest and copy.commit.kind != "merge":
            raise StoreError(
                f"the {copy.commit.kind} {name} of {copy.store} would take the place of that in {target}; merge into a "
                "new folder"
            )
    records = {name: record for name, record in map(_record, others) if _is_first(record, kept.get(name), name in own)}
    new = [copy for copy in new if copy.commit.job not in records]
    for copy in sorted(new, key=lambda copy: place(copy.commit)):
        with target.job(copy.commit.job, kind=cast("JobKind", copy.commit.kind), resume=False) as job:
            job.commit_copy(copy.commit, copy.store)
    for name, record in sorted(records.items()):
        with target.job(name, kind="merge", resume=False) as job:
            job.write("merged_copies", conform("merged_copies", [record.row]))
            job.commit(committed_at=record.committed_at)
    return MergeReport(
        len({**kept, **records}), len(new) + len(records), tuple(sorted({copy.commit.job for copy in others}))
    )


def _copies(sources: Sequence[Store]) -> Mapping[str, list[_Copy]]:
    """Return the copies of every job, by its name."""
    copies = defaultdict(list)
    for source in sources:
        for job in jobs(source):
            copies[job.commit.job].append(_Copy(source, job, _digest(job.commit), _lacking(source, job.commit)))
    return copies


def _lacking(store: Store, commit: Commit) -> int:
    """Return how many columns of text the files of a job are without, as those of a pack may be."""
    n_lacking = 0
    for file in commit.files:
        texts = {column.name for column in TABLES[file.table].columns if column.holds_text}
        if texts:
            n_lacking += len(texts - parquet.columns(store.locate(file)))
    return n_lacking


def _digest(commit: Commit) -> str:
    return identifier({"files": [[file.path, file.sha256] for file in commit.files]})


def _check_corpora(copies: Iterable[Sequence[_Copy]]) -> None:
    """Raise a `StoreError` if stores mean different texts or labels by a corpus of one name."""
    tables = [name for name, declared in TABLES.items() if {"corpus", "corpus_sha256"} <= {*declared.column_names}]
    found: dict[str, tuple[str, Store]] = {}
    for copy in (copy for group in copies for copy in group):
        for name, digest in _values(copy, tables, ("corpus", "corpus_sha256")):
            other_digest, other = found.setdefault(name, (digest, copy.store))
            if digest is not None and other_digest != digest:
                raise StoreError(
                    f"corpus {name!r} is another in {other} (digest {other_digest[:16]}) than in {copy.store} "
                    f"({digest[:16]}): stores are merged if a name means the same in both"
                )


def _check_files(copies: Iterable[_Copy]) -> None:
    """Raise a `StoreError` unless the files of copies are what was committed, and conform to their tables."""
    with duckdb.connect() as database:
        for copy in copies:
            for file in copy.commit.files:
                try:
                    check_file(copy.store.path, copy.commit, file, database)
                except (SchemaError, StoreError) as error:
                    raise StoreError(f"{copy.store.path / file.path}: {error}") from error


def _tolerances(copies: Iterable[_Copy]) -> Mapping[str, float]:
    """Return the tolerance of each run's floats."""
    dtypes = dict(pair for copy in copies for pair in _values(copy, ["runs"], ("run_id", "dtype")))
    return {run_id: TOLERANCES.get(dtype, TOLERANCES["float32"]) for run_id, dtype in dtypes.items()}


def _values(copy: _Copy, tables: Sequence[str], columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    paths = tuple(copy.store.locate(file) for file in copy.commit.files if file.table in tables)
    return list(zip(*parquet.read(paths, columns).to_pydict().values(), strict=True)) if paths else []


def _equals(kept: _Copy, group: Iterable[_Copy], tolerances: Mapping[str, float]) -> list[_Copy]:
    """Return the copies of a job with other bytes than the one kept, one of each; raise if the content differs."""
    others = {copy.digest: copy for copy in sorted(group, key=lambda copy: copy.precedence, reverse=True)}
    del others[kept.digest]
    runs = [key for what, key in kept.job.makes | kept.job.refers if what == "run_id"]
    tolerance = max((tolerances[run_id] for run_id in runs if run_id in tolerances), default=TOLERANCES["float32"])
    for other in others.values():
        _check_files([other])
        found = worst_difference((kept.store, kept.commit), (other.store, other.commit), tolerance)
        if found is not None:
            raise StoreError(
                f"{kept.commit.kind} {kept.commit.job} is another in {kept.store} than in {other.store}; worst cell: "
                f"{found} (tolerated: {tolerance:g}); 'neuronlake remove' it from one of them"
            )
    is_making = kept.commit.kind != "merge"  # and not a record, nor a copy without texts
    return [other for other in others.values() if is_making and other.n_lacking <= kept.n_lacking]


def _record(copy: _Copy) -> tuple[str, _Record]:
    """Return what is kept of a copy that is not: the name of its job, and its row."""
    keys = {"job": copy.commit.job, "copy_digest": copy.digest}
    facts = {"neuronlake_version": copy.commit.neuronlake_version}
    for file in copy.commit.files:
        present = [name for name in TABLES["merged_copies"].column_names if name in TABLES[file.table].column_names]
        if "duration_s" in present:
            (facts,) = parquet.read((copy.store.locate(file),), tuple(present)).slice(0, 1).to_pylist()
    return f"merged-{identifier(keys)}", _Record(copy.commit.committed_at, keys | facts)


def _is_first(record: _Record, known: _Copy | None, is_own: bool) -> bool:
    """Return whether a record is to be written: one that is there has the same row, and may be of an earlier commit."""
    return not is_own and (known is None or record.committed_at < known.commit.committed_at)
