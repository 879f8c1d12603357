"""A store on disk: a folder of Parquet files that is also a Hugging Face dataset repository.

::

    STORE/README.md                                     dataset card, written anew with each commit
    STORE/commits/<job>.json                            one a committed job: its files with sha256 and rows
    STORE/data/<table>/<model>/<revision>/<job>-<n>.parquet    (<table>/<job>-<n> where a table has no model)
    STORE/derived/<view>/…                              materialised views: a cache
    STORE/.staging/<job>/…                              work in progress

What is not in a commit does not exist. A job stages its files, syncs them, renames them into place and then
commits, so that a killed job leaves nothing visible; the same job started again finds its staged parts and
goes on. Jobs of different names may write one store at once; one job has one writer, held by a lock.
"""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from ..errors import StoreError
from .identity import file_sha256
from .tables import SCHEMA_VERSION, table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Commit", "CommittedFile", "Job", "Problem", "Store", "corpus_job", "folder_name"]


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """One Parquet file of a commit.

    Parameters
    ----------
    path
        Where it lies, relative to the store, with forward slashes.
    table
        The table its rows belong to.
    n_rows
        Rows in it.
    size_bytes
        Its size.
    sha256
        Its digest.
    """

    path: str
    table: str
    n_rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One committed job.

    Parameters
    ----------
    job
        Name of the job: a run_id, or the kind and the name of what was added.
    kind
        What the job made: corpus, run, …
    schema_version
        Version of the declarations in ``schema/tables.py`` it was written with.
    neuronlake_version
        Version of the package that wrote it.
    committed_at
        When, in UTC, ISO 8601.
    files
        Its files, in the order written.
    """

    job: str
    kind: str
    schema_version: int
    neuronlake_version: str
    committed_at: str
    files: tuple[CommittedFile, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a store, found by `Store.check`."""

    path: str
    what: str


class Store:
    """The files of a store.

    Parameters
    ----------
    path
        The folder. It need not exist: the first job makes it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def commits(self) -> tuple[Commit, ...]:
        """Return all commits, oldest first.

        Raises
        ------
        StoreError
            If the folder is not a store, a commit cannot be read, or it was written by a newer neuronlake.
        """
        folder = self.path / "commits"
        if not folder.is_dir():
            if self.path.exists() and not self.path.is_dir():
                raise StoreError(f"{self.path} is not a folder")
            return ()
        found = [_read_commit(file) for file in folder.glob("*.json")]
        return tuple(sorted(found, key=lambda commit: (commit.committed_at, commit.job)))

    def require(self) -> None:
        """Raise unless the folder is a store, or an empty folder that may become one.

        Raises
        ------
        StoreError
            If it does not exist, or holds something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path} is not a folder")
        is_store = (self.path / "commits").is_dir() or (self.path / ".staging").is_dir()
        if not is_store and not (self.path.is_dir() and not any(self.path.iterdir())):
            raise StoreError(f"no store at {self.path}: 'neuronlake corpus add' makes one, --store names another")

    def commit(self, job: str) -> Commit | None:
        """Return the commit of `job`, or None if it has not been committed."""
        file = self._commit_file(job)
        return _read_commit(file) if file.exists() else None

    def files(self, name: str, *, job: str | None = None) -> tuple[Path, ...]:
        """Return the committed files of a table, as absolute paths.

        Parameters
        ----------
        name
            The table.
        job
            Only files of this job.

        Raises
        ------
        UnknownNameError
            If no such table is declared.
        """
        table(name)
        root = self.path.absolute()
        commits = self.commits() if job is None else filter(None, [self.commit(job)])
        return tuple(root / file.path for commit in commits for file in commit.files if file.table == name)

    @contextlib.contextmanager
    def job(self, name: str, *, kind: str, resume: bool = True) -> Iterator["Job"]:
        """Start, or go on with, the job called `name`.

        Parameters
        ----------
        name
            Name of the job; it becomes part of the names of its files.
        kind
            What the job makes: corpus, run, …
        resume
            Whether the parts of an attempt that failed or was killed are kept for the next one. Only for
            jobs whose name tells their content.

        Raises
        ------
        StoreError
            If the folder cannot be written, the job is already committed, or another process is writing it.
        """
        staging = self.path / ".staging" / folder_name(name)
        made = [folder for folder in (staging.parent, self.path) if not folder.exists()]
        try:
            staging.mkdir(parents=True, exist_ok=True)
            lock = (staging / "lock").open("a")
        except OSError as error:
            raise StoreError(f"cannot write the store {self.path}: {error.strerror or error}") from error
        with lock:
            _hold(lock, name, self.path)
            if self._commit_file(name).exists():
                shutil.rmtree(staging, ignore_errors=True)
                raise StoreError(f"{name} is already committed in {self.path}")
            try:
                _discard_parts(staging, only_foreign=resume)
            except OSError as error:
                raise StoreError(f"cannot write {staging}: {error.strerror or error}") from error
            try:
                yield Job(self, name, kind, staging)
            except BaseException:
                if not resume:
                    shutil.rmtree(staging, ignore_errors=True)
                    for folder in made:
                        with contextlib.suppress(OSError):
                            folder.rmdir()
                raise

    def check(self) -> tuple[Problem, ...]:
        """Return what is wrong: committed files that are missing, altered or unreadable, and stray files."""
        problems: list[Problem] = []
        committed = set()
        for commit in self.commits():
            for file in commit.files:
                committed.add(file.path)
                path = self.path / file.path
                if not path.exists():
                    problems.append(Problem(file.path, "missing"))
                elif path.stat().st_size != file.size_bytes or file_sha256(path) != file.sha256:
                    problems.append(Problem(file.path, "altered since it was committed (size or sha256 differs)"))
        for path in sorted((self.path / "data").rglob("*")):
            relative = path.relative_to(self.path).as_posix()
            if path.is_file() and relative not in committed:
                problems.append(Problem(relative, "in no commit, and so invisible to queries"))
        return tuple(problems)

    def _commit_file(self, job: str) -> Path:
        return self.path / "commits" / f"{folder_name(job)}.json"


class Job:
    """Work in progress, made by `Store.job`: write tables part by part, then commit once."""

    def __init__(self, store: Store, name: str, kind: str, staging: Path) -> None:
        self.name = name
        self.kind = kind
        self._store = store
        self._staging = staging

    def folder(self, name: str) -> Path:
        """Return a folder for what is kept from one attempt at the job to the next; gone with its commit."""
        folder = self._staging / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror or error}") from error
        return folder

    def is_staged(self, name: str, part: int) -> bool:
        """Return whether part `part` of table `name` was staged completely, now or by an earlier attempt."""
        return bool(list((self._staging / name).rglob(f"*-{part}.parquet")))

    def write(
        self,
        name: str,
        data: "pa.Table",
        *,
        part: int = 0,
        model: str | None = None,
        revision: str | None = None,
    ) -> None:
        """Check rows against their declaration and stage them as one file.

        Parameters
        ----------
        name
            The table.
        data
            The rows; string keys may be dictionary-encoded.
        part
            Number of the file within the job and table.
        model, revision
            Folders to put the file in, where the table has a model.

        Raises
        ------
        SchemaError
            If the rows do not conform; nothing is written.
        StoreError
            If the disk refuses.
        """
        from . import parquet
        from .conformance import check

        declared = table(name)
        check(declared, data)
        folders = [folder_name(each) for each in (model, revision) if each is not None]
        path = self._staging.joinpath(name, *folders, f"{folder_name(self.name)}-{part}.parquet")
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = {"job": self.name, "neuronlake_version": neuronlake_version()}
            if self.kind == "run":
                metadata["run_id"] = self.name
            parquet.write(declared, data, partial, metadata=metadata)
            _sync(partial)
            partial.replace(path)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error

    def commit(self) -> Commit:
        """Make everything staged visible at once and return the commit.

        Raises
        ------
        StoreError
            If the disk refuses; nothing becomes visible.
        """
        from . import card, parquet

        try:
            files = []
            for staged in sorted(self._staging.rglob("*.parquet"), key=_part_order):
                relative = staged.relative_to(self._staging)
                target = self._store.path / "data" / relative
                files.append(
                    CommittedFile(
                        path=target.relative_to(self._store.path).as_posix(),
                        table=relative.parts[0],
                        n_rows=parquet.n_rows(staged),
                        size_bytes=staged.stat().st_size,
                        sha256=file_sha256(staged),
                    )
                )
                target.parent.mkdir(parents=True, exist_ok=True)
                staged.replace(target)
                _sync(target.parent)
            commit = Commit(
                job=self.name,
                kind=self.kind,
                schema_version=SCHEMA_VERSION,
                neuronlake_version=neuronlake_version(),
                committed_at=datetime.datetime.now(datetime.UTC).isoformat(),
                files=tuple(files),
            )
            commit_file = self._store._commit_file(self.name)
            commit_file.parent.mkdir(parents=True, exist_ok=True)
            # The card first: if it cannot be written, nothing is committed. One at a time, so that no job's card
            # lacks what another commits meanwhile.
            with _locked(self._store.path / ".staging"):
                card_text = card.text((*self._store.commits(), commit))
                _replace_text(self._store.path / "README.md", card_text, self._staging / "card.md")
                text = json.dumps(asdict(commit), indent=1) + "\n"
                _replace_text(commit_file, text, self._staging / "commit.json")
            shutil.rmtree(self._staging, ignore_errors=True)
        except OSError as error:
            raise StoreError(f"cannot write the store {self._store.path}: {error.strerror or error}") from error
        return commit


def corpus_job(corpus: str) -> str:
    """Return the name of the job that makes the corpus called `corpus`."""
    return f"corpus-{corpus}"


def folder_name(name: str) -> str:
    """Return `name` as one safe path component, as the hub writes it: ``google/switch`` is ``google--switch``."""
    safe = quote(name.replace("/", "--"), safe="-_.+ ,()@").lstrip(".")
    return safe or "_"


def neuronlake_version() -> str:
    """Return the installed version of neuronlake."""
    return importlib.metadata.version("neuronlake")


def _read_commit(file: Path) -> Commit:
    try:
        fields = json.loads(file.read_text())
        version = fields["schema_version"]
        if not isinstance(version, int):
            raise TypeError(f"schema_version is {version!r}, not an integer")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"cannot read the commit {file}: {type(error).__name__} {error}") from error
    # Before anything else of it is looked at: a newer version may have more to say.
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{file} was written with schema version {version}, this neuronlake ({neuronlake_version()}) reads up to "
            f"{SCHEMA_VERSION}; please upgrade neuronlake"
        )
    try:
        return Commit(**{**fields, "files": tuple(CommittedFile(**each) for each in fields["files"])})
    except (TypeError, KeyError) as error:
        raise StoreError(f"cannot read the commit {file}: {error}") from error


def _hold(lock: IO[str], job: str, store: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(f"another process is writing {job} to {store}; wait for it, or stop it") from error


def _discard_parts(staging: Path, *, only_foreign: bool) -> None:
    """Drop staged parts: all, or only those another version staged, whose code may compute something else."""
    writer = staging / "writer.json"
    mine = json.dumps({"neuronlake_version": neuronlake_version(), "schema_version": SCHEMA_VERSION})
    if not only_foreign or (writer.exists() and writer.read_text() != mine):
        for folder in staging.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)
    writer.write_text(mine)


def _part_order(staged: Path) -> tuple[Path, int]:
    """Sort files by table and model, and then by the number of the part, not its digits."""
    return staged.parent, int(staged.stem.rpartition("-")[2])


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against all others who do the same, waiting for it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_text(path: Path, text: str, temporary: Path) -> None:
    """Write `text` to `path` so that a reader sees the old or the new file, never a half."""
    temporary.write_text(text)
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)
