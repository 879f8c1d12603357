"""The union of stores, job by job: what two made alike is kept once, what they contradict each other in is refused."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from ..errors import SchemaError, StoreError, joined
from ..schema.conformance import conform
from ..schema.integrity import check_file
from ..schema.names import identifier
from ..schema.store import Store
from ..schema.stores.union import Copy, check_corpora, copies, copy_kept
from ..schema.tables import TABLES
from .comparison import tolerance, worst_difference
from .jobs import place, read_job
from .transfer import at_hand


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge committed."""

    n_jobs: int  # of all the stores together, each counted once
    n_new: int  # of these, committed now: the others were there
    # Jobs of which the stores hold several makings, equal but for times, devices and rounding: one is kept, and
    # ``merged_copies`` names the others
    made_twice: tuple[str, ...]

    def describe(self) -> str:
        """Return what was done, in one line."""
        twice = f"; made more than once, and alike: {joined(self.made_twice)}" if self.made_twice else ""
        return f"{self.n_jobs:,} jobs, {self.n_new:,} committed now{twice}"


def merge_stores(stores: Sequence[str | os.PathLike[str]], *, into: str | os.PathLike[str]) -> MergeReport:
    """Merge stores into one that holds every job of each of them.

    A job that several hold byte for byte is kept once. Of one that was made several times, in two laboratories, keys,
    labels and counts must be equal and floats within the tolerance of docs/sharing.md: the making with the smallest
    digest is kept, and the table ``merged_copies`` gets a row for each other. In what order stores are merged, and
    whether at once or one by one, makes no difference to the result. All is compared before anything is written; jobs
    are then committed one by one, what others refer to first. Killed, the same call goes on.

    Parameters
    ----------
    stores
        Folders of stores, packs in one file, URLs; they are not changed.
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
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(at_hand(store)) for store in stores]
        for source in sources:
            source.require()
        return _merge(sources, Store(into))


def _merge(sources: Sequence[Store], target: Store) -> MergeReport:
    own = {commit.job: Copy(target, commit).digest for commit in target.commits()}
    by_job = copies([*sources, target] if own else sources)
    check_corpora(copy for group in by_job.values() for copy in group)
    kept = {name: copy_kept(group) for name, group in by_job.items()}
    dtypes = dict(pair for copy in kept.values() for pair in copy.values(["runs"], ("run_id", "dtype")))
    others: list[Copy] = []
    new = [copy for name, copy in kept.items() if name not in own]
    _check_files(new)
    for name, copy in kept.items():
        others += _equals(copy, by_job[name], dtypes)
        if own.get(name, copy.digest) != copy.digest and copy.commit.kind != "merge":
            what = f"the {copy.commit.kind} {name} of {copy.store}"
            raise StoreError(f"{what} would take the place of that in {target}; merge into a new folder")
    records: dict[str, Copy] = {}
    for copy in others:
        name = f"merged-{identifier({'job': copy.commit.job, 'copy_digest': copy.digest})}"
        known = kept.get(name)  # a record that is there has the same row, and may be of an earlier commit
        if name not in own and (known is None or copy.commit.committed_at < known.commit.committed_at):
            records[name] = copy
    new = [copy for copy in new if copy.commit.job not in records]
    for copy in sorted(new, key=lambda copy: place(copy.commit)):
        target.add_copy(copy.commit, copy.store)
    for name, copy in sorted(records.items()):
        with target.job(name, kind="merge", resume=False) as job:
            job.write("merged_copies", conform("merged_copies", [_record(copy)]))
            # As the copy says, so that its record is the same to the byte whoever merges.
            job.commit(committed_at=copy.commit.committed_at)
    made_twice = tuple(sorted({copy.commit.job for copy in others}))
    return MergeReport(len({**kept, **records}), len(new) + len(records), made_twice)


def _check_files(copies: Iterable[Copy]) -> None:
    """Raise a `StoreError` unless the files of copies are what was committed, and conform to their tables."""
    with duckdb.connect() as database:
        for copy in copies:
            for file in copy.commit.files:
                try:
                    check_file(copy.store.path, copy.commit, file, database)
                except (SchemaError, StoreError) as error:
                    raise StoreError(f"{copy.store.path / file.path}: {error}") from error


def _equals(kept: Copy, group: Iterable[Copy], dtypes: Mapping[str, str]) -> list[Copy]:
    """Return the copies of a job with other bytes than the one kept, one of each; raise if the content differs."""
    by_digest = defaultdict(list)
    for copy in group:
        by_digest[copy.digest].append(copy)
    del by_digest[kept.digest]
    if not by_digest:
        return []
    others = {digest: copy_kept(alike) for digest, alike in by_digest.items()}
    job = read_job(kept.store, kept.commit)
    of_runs = [dtypes[key] for what, key in job.makes | job.refers if what == "run_id" and key in dtypes]
    devices = kept.values(["runs"], ("device",))
    for other in others.values():
        _check_files([other])
        # Only of a run it is known where it was made: what follows from runs may have been made from other makings.
        is_same_device = devices == other.values(["runs"], ("device",)) != []
        allowed = tolerance(of_runs, is_same_device=is_same_device)
        found = worst_difference((kept.store, kept.commit), (other.store, other.commit), allowed)
        if found is not None:
            problem = f"{kept.commit.kind} {kept.commit.job} is another in {kept.store} than in {other.store}"
            raise StoreError(f"{problem}; worst cell: {found} ({allowed}); 'neuronlake remove' it from one of them")
    is_making = kept.commit.kind != "merge"  # and not a record, nor a copy without texts
    return [other for other in others.values() if is_making and other.n_lacking <= kept.n_lacking]


def _record(copy: Copy) -> Mapping[str, object]:
    """Return what is kept of a copy that is not: its row in ``merged_copies``."""
    facts = {"neuronlake_version": copy.commit.neuronlake_version}
    for file in copy.commit.files:
        present = [name for name in TABLES["merged_copies"].column_names if name in TABLES[file.table].column_names]
        if "duration_s" in present:
            facts = dict(zip(present, copy.values([file.table], tuple(present))[0], strict=True))
    return {"job": copy.commit.job, "copy_digest": copy.digest, **facts}
