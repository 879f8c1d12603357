"""The jobs of a store: which depend on which, lists of them and of runs with dates and sizes, and their removal."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from ..errors import StoreError, UnknownNameError, joined
from ..queries.database import Database
from ..queries.result import Result
from ..schema import parquet
from ..schema.commits import Commit, CommittedFile
from ..schema.store import Store
from ..schema.stores.union import Place
from ..schema.tables import TABLES
from ..schema.vocabulary import JobKind

Key = tuple[str, str]
"""What a job makes and others refer to: the column of its id, and the id; and itself, as ``job``."""

DEFINED_BY: Mapping[str, str] = {
    "corpus": "corpora",
    "run_id": "runs",
    "partition_id": "partitions",
    "alignment_id": "alignments",
    "perturbation_id": "perturbation_studies",
    "emergence_id": "emergence_studies",
}
"""The columns that name what a job makes, and the table that has a row of it."""

# The columns that name what a job makes, or a job itself, and by which key.
_NAMING = {name: name for name in (*DEFINED_BY, "job")} | dict.fromkeys(("last_run_id", "reference_run_id"), "run_id")
# Kinds of jobs that only add to what another made. A merged copy may be of any of the others.
_ADDITIONS = ("best", "controls", "coactivation", "highlights", "vocabulary", "merge")


@dataclass(frozen=True, slots=True)
class Job:
    """A committed job, what it makes, and what its rows refer to beside that."""

    commit: Commit
    makes: frozenset[Key]
    refers: frozenset[Key]
    checkpoints: frozenset[tuple[str, str]]  # model and revision of its rows


def read_job(store: Store, commit: Commit) -> Job:
    """Return a committed job with what its files say; one that cannot be read is a `StoreError`."""
    makes, refers, checkpoints = {("job", commit.job)}, set[Key](), set[tuple[str, str]]()
    for file in commit.files:
        columns = TABLES[file.table].column_names
        has_model = {"model", "revision"} <= {*columns}
        named = [name for name in columns if name in _NAMING]
        rows = _distinct(store, file, (*named, *(("model", "revision") if has_model else ())))
        if has_model:
            checkpoints |= {(str(row["model"]), str(row["revision"])) for row in rows}
        for name in named:
            # Instead of a partition, * says that rows are of neurons.
            keys = {(_NAMING[name], str(row[name])) for row in rows if row.get(name) not in (None, "*")}
            (makes if DEFINED_BY.get(name) == file.table else refers).update(keys)
    return Job(commit, frozenset(makes), frozenset(refers - makes), frozenset(checkpoints))


def _distinct(store: Store, committed: CommittedFile, columns: tuple[str, ...]) -> list[dict[str, object]]:
    """Return the distinct rows of some columns of a file, those that it has; only what statistics lack is read."""
    with parquet.opened(store, committed) as file:
        places = {file.metadata.schema.column(place).name: place for place in range(file.metadata.num_columns)}
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        present = [name for name in columns if name in places]
        found: dict[str, object] = {}
        for name in present:
            statistics = [group.column(places[name]).statistics for group in groups]
            bounds = {of for each in statistics if each and each.has_min_max for of in (each.min, each.max)}
            if len(bounds) == 1 and all(each and each.has_min_max and not each.null_count for each in statistics):
                found[name] = bounds.pop()
        read = [name for name in present if name not in found]
        rows = file.read(columns=read).group_by(read).aggregate([]).to_pylist() if read else [{}]
    return [found | row for row in rows] if groups else []


def place(commit: Commit) -> tuple[int, str]:
    """Return where a job comes in an order in which jobs refer to earlier ones alone: kinds to the kinds before."""
    kinds = get_args(JobKind)
    return kinds.index(commit.kind) if commit.kind in kinds else len(kinds), commit.job


class Inventory:
    """The jobs of a store, oldest first, and how they depend on each other; what cannot be read is a `StoreError`."""

    def __init__(self, store: Store) -> None:
        self.jobs = [read_job(store, commit) for commit in store.commits()]
        self._referring: dict[Key, set[int]] = defaultdict(set)
        for number, job in enumerate(self.jobs):
            for key in job.refers:
                self._referring[key].add(number)

    def dependents(self, of: Sequence[Job]) -> list[Job]:
        """Return the other jobs that refer to what some make, directly or by others."""
        found, left = set[int](), list(of)
        while left:
            new = {number for key in left.pop().makes for number in self._referring.get(key, ())} - found
            found |= new
            left += [self.jobs[number] for number in new]
        return [self.jobs[number] for number in sorted(found) if self.jobs[number] not in of]

    def additions(self, of: Sequence[Job]) -> list[Job]:
        """Return the jobs that only add to some: what was added to a run later, merged copies."""
        found: list[Job] = []
        candidates = self.dependents(of)
        for kind in _ADDITIONS:
            made = {key for job in (*of, *found) for key in job.makes | job.refers}
            found += [job for job in candidates if job.commit.kind == kind and job.refers <= made]
        return found


def list_jobs(store: Place) -> Result:
    """Return the jobs of a store, oldest first: what each made, its date and size, and how jobs depend on each other.

    Parameters
    ----------
    store
        The store's folder, a pack in one file, or a URL; several are read as one.

    Returns
    -------
    Result
        Columns ``job`` (a run_id, the id of a partition or study, ``corpus-<name>``), ``kind``, ``models``,
        ``committed_at``, ``neuronlake_version``, ``n_files``, ``n_rows``, ``size_bytes``; and as lists of jobs
        ``depends_on`` (which it names) and ``dependents`` (which name it, directly or by others).

    Raises
    ------
    StoreError
        If there is no store, or it cannot be read.

    Examples
    --------
    >>> neuronlake.list_jobs("neuronlake-store").pl()["kind"].to_list()
    ['corpus', 'run', 'partition', 'partition']
    """
    database = Database(store)  # left open: what it returns lives in it
    inventory = Inventory(database.store)
    makers = {key: job.commit.job for job in inventory.jobs for key in job.makes}
    rows = [
        {
            "job": job.commit.job,
            "kind": job.commit.kind,
            "models": sorted({model for model, _ in job.checkpoints}),
            "committed_at": job.commit.committed_at,
            "neuronlake_version": job.commit.neuronlake_version,
            **_size([job]),
            "depends_on": sorted({makers[key] for key in job.refers if key in makers}),
            "dependents": [each.commit.job for each in inventory.dependents([job])],
        }
        for job in inventory.jobs
    ]
    return database.ask("job_list", jobs=rows)


def list_runs(store: Place) -> Result:
    """Return the runs of a store, oldest first: model, corpus, settings, date, size, and how much depends on each.

    Parameters
    ----------
    store
        The store's folder, a pack in one file, or a URL; several are read as one.

    Returns
    -------
    Result
        Columns of the table ``runs``; ``n_files``, ``n_rows`` and ``size_bytes`` of the run with what was added to it
        (such as control functions, highlights); and ``dependents``: how many jobs of each kind depend on
        it, as text.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be read.

    Examples
    --------
    >>> neuronlake.list_runs("neuronlake-store").pl()["dependents"].to_list()
    ['1 partition']
    """
    database = Database(store)  # left open: what it returns lives in it
    inventory = Inventory(database.store)
    rows = []
    for job in inventory.jobs:
        counts = Counter(each.commit.kind for each in inventory.dependents([job]))
        in_words = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
        runs = [key for name, key in job.makes if name == "run_id"]
        rows += [{"run_id": run, **_size([job, *inventory.additions([job])]), "dependents": in_words} for run in runs]
    return database.ask("run_list", sizes=rows)


def _size(of: Sequence[Job]) -> dict[str, int]:
    files = [file for job in of for file in job.commit.files]
    n_rows, size_bytes = sum(file.n_rows for file in files), sum(file.size_bytes for file in files)
    return {"n_files": len(files), "n_rows": n_rows, "size_bytes": size_bytes}


@dataclass(frozen=True, slots=True)
class RemovalReport:
    """The jobs that were removed, or would be."""

    jobs: tuple[tuple[str, str], ...]  # kind and name of each, what depends on others first
    n_files: int
    size_bytes: int
    is_dry_run: bool  # whether nothing was removed yet

    def describe(self) -> str:
        """Return a line for each job, and one for all."""
        verb = "would be removed" if self.is_dry_run else "removed"
        lines = [f"{kind} {name}: {verb}" for kind, name in self.jobs]
        return "\n".join([*lines, f"{len(self.jobs):,} jobs, {self.n_files:,} files, {self.size_bytes:,} bytes"])


def remove_jobs(
    store: str | os.PathLike[str], names: Sequence[str], *, with_dependents: bool = False, dry_run: bool = False
) -> RemovalReport:
    """Remove runs, partitions, studies or corpora from a store, unless other jobs depend on them.

    What only adds to a run (such as control functions, highlights) goes with it. What depends on a job goes
    before it, and of each job the commit before the files: readers see a job whole or not at all, and what a killed
    removal leaves is finished by the same call, the next job or ``check --repair``.

    Parameters
    ----------
    store
        The store's folder.
    names
        Ids of runs, partitions and studies, or their first digits; names of corpora; names of jobs.
    with_dependents, dry_run
        Whether the jobs that depend on them are removed too; whether to remove nothing, and only say what would go.

    Raises
    ------
    UnknownNameError, StoreError
        If the store has no such job; if a name stands for several jobs, others depend on a job, a job is running, or
        the store cannot be written.

    Examples
    --------
    >>> report = neuronlake.remove_jobs("neuronlake-store", ["animals"], with_dependents=True, dry_run=True)
    >>> [kind for kind, _ in report.jobs]
    ['partition', 'run', 'corpus']
    """
    target = Store(store)
    target.require()
    inventory = Inventory(target)
    chosen = [_chosen(name, inventory.jobs, target) for name in names]
    additions = inventory.additions(chosen)
    others = [job for job in inventory.dependents(chosen) if job not in additions]
    if others and not with_dependents:
        listed = joined([f"{job.commit.kind} {job.commit.job}" for job in others])
        problem = f"{joined(names)} cannot be removed from {target} alone, others depend on it: {listed}"
        raise StoreError(f"{problem}; with_dependents removes them too")
    distinct = {job.commit.job: job for job in (*chosen, *additions, *others)}
    gone = sorted((job.commit for job in distinct.values()), key=place, reverse=True)
    if not dry_run:
        target.remove(gone, known=[job.commit for job in inventory.jobs])
    named = tuple((commit.kind, commit.job) for commit in gone)
    n_files = sum(len(commit.files) for commit in gone)
    return RemovalReport(named, n_files, sum(commit.size_bytes for commit in gone), dry_run)


def _chosen(name: str, among: Sequence[Job], where: Store) -> Job:
    """Return the job that a name stands for: its own, that of what it made, or the first digits of an id."""
    exact = [job for job in among if name in {key for _, key in job.makes}]
    ids = [(key, job) for job in among for what, key in job.makes if what not in ("job", "corpus")]
    found = exact or [job for key, job in ids if name and key.startswith(name)]
    distinct = {job.commit.job: job for job in found}
    if not distinct:
        available = {key for job in among for what, key in job.makes if what != "job"}
        raise UnknownNameError("job", name, available, where=where)
    if len(distinct) > 1:
        raise StoreError(f"{name!r} stands for several jobs in {where}: {joined(sorted(distinct))}; give more digits")
    return next(iter(distinct.values()))
