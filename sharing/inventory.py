"""What a store holds and what it costs: its jobs and runs with dates, sizes and what depends on each."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import get_args

from ..queries.database import Database
from ..queries.result import Result
from ..schema.commits import Commit
from ..schema.stores.union import Place
from ..schema.vocabulary import JobKind
from .references import Job, Key, jobs

# Kinds of jobs that only add to what another made. A merged copy may be of any of the others.
_ADDITIONS = ("best", "controls", "coactivation", "highlights", "vocabulary", "merge")


def place(commit: Commit) -> tuple[int, str]:
    """Return where a job comes in an order in which jobs refer to earlier ones alone: kinds to the kinds before."""
    kinds = get_args(JobKind)
    return kinds.index(commit.kind) if commit.kind in kinds else len(kinds), commit.job


class Inventory:
    """The jobs of a store, oldest first, and how they depend on each other."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self._referring: dict[Key, set[int]] = defaultdict(set)
        for number, job in enumerate(jobs):
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
    inventory = Inventory(jobs(database.store))
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
    types = (
        "job varchar, kind varchar, models varchar[], committed_at timestamp with time zone, neuronlake_version "
        "varchar, n_files bigint, n_rows bigint, size_bytes bigint, depends_on varchar[], dependents varchar[]"
    )
    return database.sql(f"select unnest(cast(? as struct({types})[]), recursive := true)", [rows])


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
    inventory = Inventory(jobs(database.store))
    rows = []
    for job in inventory.jobs:
        counts = Counter(each.commit.kind for each in inventory.dependents([job]))
        in_words = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
        rows += [
            {"run_id": key, **_size([job, *inventory.additions([job])]), "dependents": in_words}
            for name, key in job.makes
            if name == "run_id"
        ]
    types = "run_id varchar, n_files bigint, n_rows bigint, size_bytes bigint, dependents varchar"
    return database.sql(
        f"""
        select run_id, model, revision, step, corpus, measurement, site, pooling, router, halves, dtype, layers,
            n_instances, device, neuronlake_version, started_at, duration_s, n_files, n_rows, size_bytes, dependents
        from runs join (select unnest(cast(? as struct({types})[]), recursive := true)) using (run_id)
        order by started_at, run_id
        """,
        [rows],
    )


def _size(of: Sequence[Job]) -> dict[str, int]:
    files = [file for job in of for file in job.commit.files]
    n_rows, size_bytes = sum(file.n_rows for file in files), sum(file.size_bytes for file in files)
    return {"n_files": len(files), "n_rows": n_rows, "size_bytes": size_bytes}
