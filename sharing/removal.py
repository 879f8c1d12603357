"""Removing jobs from a store: what nothing depends on, or all that does with it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import StoreError, UnknownNameError, joined
from ..schema.store import Store
from .inventory import Inventory, place
from .references import Job, jobs


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
    with_dependents
        Whether the jobs that depend on them are removed too.
    dry_run
        Whether to remove nothing, and only say what would go.

    Raises
    ------
    UnknownNameError
        If the store has no such job.
    StoreError
        If a name stands for several jobs, others depend on a job, a job is running, or the store cannot be written.

    Examples
    --------
    >>> report = neuronlake.remove_jobs("neuronlake-store", ["animals"], with_dependents=True, dry_run=True)
    >>> [kind for kind, _ in report.jobs]
    ['partition', 'run', 'corpus']
    """
    target = Store(store)
    target.require()
    inventory = Inventory(jobs(target))
    chosen = [_chosen(name, inventory.jobs, target) for name in names]
    additions = inventory.additions(chosen)
    others = [job for job in inventory.dependents(chosen) if job not in additions]
    if others and not with_dependents:
        listed = joined([f"{job.commit.kind} {job.commit.job}" for job in others])
        raise StoreError(
            f"{joined(names)} cannot be removed from {target} alone, others depend on it: {listed}; with_dependents "
            "removes them too"
        )
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
