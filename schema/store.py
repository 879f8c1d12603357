"""A store on disk: a folder of Parquet files that is also a Hugging Face dataset repository.

::

    STORE/README.md                                     dataset card, written anew with each commit
    STORE/commits/<job>.json                            one a committed job: its files with sha256 and rows
    STORE/data/<table>/<model>/<revision>/<job>-<n>.parquet    (<table>/<job>-<n> where a table has no model)
    STORE/derived/<view>/…                              materialised views: a cache
    STORE/.staging/<job>/…                              work in progress

What is not in a commit does not exist. A job stages its files, syncs them, renames them into place and then
commits, so that a killed job leaves nothing visible; the same job started again goes on from its staged parts.
Jobs of different names may write one store at once; a lock keeps a job to one writer. On a disk without locks several
may do the same job, each in a folder of its own (see `leftovers`), and the first commit stands.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from ..errors import AlreadyCommittedError, BeingWrittenError, StoreError
from . import card, disk, leftovers
from .commits import Commit, CommittedFile, read_commit, read_commits
from .job import Job
from .leftovers import Problem
from .names import STAGING, file_sha256, folder_name
from .tables import table
from .vocabulary import JobKind

if TYPE_CHECKING:
    import duckdb

_PIECE = 64 << 20  # bytes of a file that are fetched at once when it is copied


class Store:
    """The files of a store.

    Parameters
    ----------
    path
        The folder. It need not exist: the first job makes it.

    Examples
    --------
    >>> sorted(commit.kind for commit in Store("neuronlake-store").commits())
    ['corpus', 'partition', 'partition', 'run']
    """

    is_read_only = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if "://" in str(path):
            raise StoreError(f"{path} is at a URL, where a store is only read")
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def root(self) -> str:
        """The place of all its files, to which their paths are added."""
        return str(self.path.absolute())

    @property
    def staging(self) -> Path:
        """The folder of work in progress."""
        return self.path / STAGING

    def require(self) -> None:
        """Raise a `StoreError` unless the folder is a store, or an empty folder that may become one."""
        with disk.store_errors(f"cannot read {self.path}"):
            if self.path.exists() and not self.path.is_dir():
                raise StoreError(f"{self.path} is not a folder")
            is_store = (self.path / "commits").is_dir() or self.staging.is_dir()
            is_empty = self.path.is_dir() and not any(self.path.iterdir())
        if not is_store and not is_empty:
            raise StoreError(f"no store at {self.path}: 'neuronlake corpus add' makes one, --store names another")

    def commits(self) -> tuple[Commit, ...]:
        """Return all commits, oldest first; a `StoreError` if one cannot be read, or is of a newer neuronlake."""
        return read_commits(self.path)[0]

    def commit(self, job: str) -> Commit | None:
        """Return the commit of `job`, or None if there is none; one that cannot be read is a `StoreError`."""
        commit = read_commit(self.path, job)
        if commit is not None and (self.staging / folder_name(job)).exists():
            # The job was killed just after its commit. If possible: a user may read a store and not write it.
            with contextlib.suppress(OSError, StoreError), disk.locked(self.staging):
                leftovers.remove(self.path)
        return commit

    def files(self, name: str, *, job: str | None = None) -> tuple[Path, ...]:
        """Return the committed files of the table called `name`, of one job or of all, as absolute paths."""
        table(name)
        commits = self.commits() if job is None else filter(None, [self.commit(job)])
        return tuple(self.locate(file) for commit in commits for file in commit.files if file.table == name)

    def open(self, file: CommittedFile) -> Path | IO[bytes]:
        """Return a committed file as pyarrow reads it: its path, or a reader of its bytes."""
        return self.locate(file)

    def copy(self, file: CommittedFile, target: Path) -> None:
        """Copy a committed file to a path, whose folder is made; a `StoreError` if it is not what was committed."""
        with disk.store_errors(f"cannot copy {self.address(file)} to {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            source = self.open(file)
            if isinstance(source, Path):
                shutil.copyfile(source, target)
            else:
                with target.open("wb") as written:
                    shutil.copyfileobj(source, written, _PIECE)
            if target.stat().st_size != file.size_bytes or file_sha256(target) != file.sha256:
                raise StoreError(f"{self.address(file)}: altered since it was committed (size or sha256 differs)")

    def address(self, file: CommittedFile) -> str:
        """Return where a committed file is read: `locate`, as text."""
        if (fault := disk.fault(self.path, file.path)) not in (None, "missing"):
            raise StoreError(f"{self.path / file.path}: {fault}")
        return f"{self.root}/{file.path}"

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Let a connection read the files: those of a folder need nothing."""

    def locate(self, file: CommittedFile) -> Path:
        """Return the absolute path of a committed file, which may be missing; a link is a `StoreError`."""
        return Path(self.address(file))

    @contextlib.contextmanager
    def job(self, name: str, *, kind: JobKind, resume: bool = True) -> Iterator[Job]:
        """Start the job called `name`, or go on with it; what killed jobs left that cannot go on is removed first.

        The name becomes part of the names of its files, and the commit says the `kind`. With `resume` the next attempt
        keeps the parts of one that failed or was killed: only for jobs whose name identifies their content. A folder
        that cannot be written, and a job that is committed or that another process is writing, are a `StoreError`.
        """
        for folder in (self.path / "commits", self.path / "data"):
            if folder.is_symlink():
                raise StoreError(f"cannot write {folder}: a symbolic link, which readers of a store do not follow")
        new_folders = [folder for folder in (self.staging, self.path) if not folder.exists()]
        with contextlib.ExitStack() as stack:
            with disk.store_errors(f"cannot write the store {self.path}"):
                has_locks = disk.has_locks(self.staging)
                with disk.locked(self.staging, is_needed=has_locks):
                    if has_locks:
                        leftovers.remove(self.path)
                        staging = self.staging / folder_name(name)
                        disk.make_folder(staging)
                        lock = disk.exclusive(staging / "lock", waits=False, creates=True)
                        if stack.enter_context(lock) is None:
                            what = f"another process is writing {name} to {self.path}"
                            raise BeingWrittenError(f"{what}; wait for it, or stop it")
                    else:
                        staging = leftovers.claim(self.staging, folder_name(name))
                    if read_commit(self.path, name) is not None:
                        shutil.rmtree(staging, ignore_errors=True)
                        raise AlreadyCommittedError(f"{name} is already committed in {self.path}")
                    leftovers.begin(staging, resume=resume)
            try:
                yield Job(self.path, name, kind, staging, is_locked=has_locks)
            except BaseException:
                # As after a kill: what the next attempt goes on with stays, and all else is removed.
                stack.close()
                with contextlib.suppress(OSError, StoreError):
                    if not has_locks:
                        leftovers.end_unlocked(staging)
                    with disk.locked(self.staging, is_needed=has_locks):
                        if has_locks:
                            leftovers.remove(self.path)
                        for folder in new_folders:
                            disk.remove_folder(folder)
                raise
            if not has_locks and staging.exists():  # it is for another process to commit
                leftovers.end_unlocked(staging)

    def add_copy(self, commit: Commit, source: "Store") -> None:
        """Add a job of another store: the same files, under the same commit; one altered is a `StoreError`."""
        # Not to be gone on with: the same job, made here, would take copies, even half ones, for parts of its own.
        with self.job(commit.job, kind=cast("JobKind", commit.kind), resume=False) as job:
            job.commit_copy(commit, source)

    def commit_staged(self, name: str, *, kind: JobKind) -> Commit:
        """Commit what another process staged for the job called `name`, unless that is done; return the commit."""
        commit = self.commit(name)
        if commit is None:
            with self.job(name, kind=kind) as job:
                if job.is_empty:
                    raise StoreError(f"nothing is staged for {name} in {self.path}; another process may have taken it")
                commit = job.commit()
        return commit

    def remove(self, commits: Sequence[Commit], *, known: Sequence[Commit]) -> None:
        """Remove committed jobs, what depends on a job given before it; readers see a job whole or not at all.

        `known` are all commits of the store when that was decided: others by now, or a running job, are a `StoreError`.
        """
        with disk.store_errors(f"cannot write the store {self.path}"), disk.locked(self.staging):
            if {commit.job for commit in self.commits()} != {commit.job for commit in known}:
                raise StoreError(f"{self.path} has changed meanwhile, and nothing was removed; try again")
            leftovers.withdraw(self.path, [commit.job for commit in commits])

    def check(self) -> tuple[Problem, ...]:
        """Return what is wrong with commits, their files, all read to the end, and the card, and files in no commit."""
        from .integrity import problems

        return tuple(problems(self.path))

    def unfinished(self) -> Mapping[str, leftovers.State]:
        """Return the state of the folders of jobs that have not committed, by name: see `leftovers.State`."""
        return leftovers.states(self.path)

    def repair(self) -> tuple[Problem, ...]:
        """Remove what killed jobs left and nobody can use, renew an outdated card, and return what was done."""
        with disk.store_errors(f"cannot write the store {self.path}"), disk.locked(self.staging):
            done = leftovers.remove(self.path, everywhere=True)
            commits = self.commits()
            if not card.is_current(self.path / "README.md", commits):
                disk.replace_text(self.path / "README.md", card.text(commits), self.staging / "card.md")
                done.append(Problem("README.md", "written anew from the commits"))
            return tuple(done)
