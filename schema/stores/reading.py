"""Stores that are only read: of their files ranges of bytes, and no more of these than a query needs.

Committed files never change, so what a reader asks of a file (is it there, how large is it) is answered by its commit.
"""

import datetime
import io
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

import msgspec

from ...errors import StoreError
from ..commits import Commit, CommittedFile, parse_commit
from ..disk import store_errors
from ..store import Store
from ..vocabulary import JobKind

if TYPE_CHECKING:
    import duckdb

INDEX = "commits.json"
"""File of a packed store that holds all its commits, for readers that cannot list a folder."""

_BLOCK = 512 << 10  # bytes of the largest request of a query: a column of a group of rows
_ESCAPED = re.compile(r"\[([*?\[])\]")  # as `quoting.path` writes what would be a pattern
_COMMITTED_AT = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)  # of all files, for they never change


class ReadOnlyStore(Store):
    """The files of a store that is only read; its commits are those that it had when they were first read."""

    is_read_only = True
    scheme: str  # how the addresses of its files begin
    _commits: tuple[Commit, ...] | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: Sequence[Store] = [self]
        self.path = Path(name)  # in no message, and nothing is there

    def __str__(self) -> str:
        return self.name

    @property
    def root(self) -> str:
        """Refuse to name one place of all files: a `StoreError`."""
        raise StoreError(f"{self} is no folder nor URL, as other programs need; 'share merge' makes it one")

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of a file, all of them without `length`; a `StoreError` says what could not be read."""
        raise NotImplementedError

    def require(self) -> None:
        """Raise a `StoreError` unless the commits can be read."""
        self.commits()

    def job(self, name: str, *, kind: JobKind, resume: bool = True) -> NoReturn:
        """Refuse to write: a `StoreError`."""
        raise StoreError(f"{self} is only read: {name} cannot be added to it")

    def commits(self) -> tuple[Commit, ...]:
        """Return all commits, oldest first, as they were when first read."""
        if self._commits is None:
            self._commits = tuple(sorted(self.read_commits(), key=lambda commit: (commit.committed_at, commit.job)))
        return self._commits

    def refresh(self, commits: tuple[Commit, ...] | None = None) -> None:
        """Read the commits again when they are next asked for, or take them to be these."""
        self._commits = commits

    def commit(self, job: str) -> Commit | None:
        """Return the commit of `job`, or None if there is none."""
        return next((commit for commit in self.commits() if commit.job == job), None)

    def open(self, file: CommittedFile) -> Path | IO[bytes]:
        """Return a reader of a committed file."""
        return cast("IO[bytes]", _RangeReader(self, file))

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Let a connection read the files: one file system for all parts whose addresses begin alike."""
        files: dict[str, dict[str, tuple[ReadOnlyStore, CommittedFile]]] = defaultdict(dict)
        for store in (part for part in self.parts if isinstance(part, ReadOnlyStore)):
            for commit in store.commits():
                files[store.scheme].update((store.address(file), (store, file)) for file in commit.files)
        # Else DuckDB fetches whole what is below two megabytes, of which a question about one layer needs a sixth.
        connection.execute(f"set external_file_cache_remote_max_block_size = '{_BLOCK}'")
        for scheme, of_scheme in files.items():
            connection.register_filesystem(_file_system(scheme, of_scheme))

    def read_commits(self) -> Sequence[Commit]:
        """Return the commits, in any order."""
        text = self.read(INDEX)
        with store_errors(f"cannot read the commits {self}/{INDEX}", ValueError, RecursionError):
            commits = [parse_commit(listed) for listed in msgspec.json.decode(text, type=list[msgspec.Raw])]
            jobs = Counter(commit.job for commit in commits)
            if twice := [job for job, count in jobs.items() if count > 1]:
                raise ValueError(f"job {twice[0]} is in it twice")
            return commits


def _file_system(scheme: str, files: Mapping[str, tuple[ReadOnlyStore, CommittedFile]]) -> Any:  # noqa: ANN401 - fsspec has no types
    """Return an fsspec file system that knows committed files alone, by their addresses, and reads ranges of them."""
    from fsspec import AbstractFileSystem

    class CommittedFiles(AbstractFileSystem):  # type: ignore[misc]
        protocol = scheme
        cachable = False

        def open(self, path: str, mode: str = "rb", **_: object) -> "_RangeReader":
            return _RangeReader(*self._file(path, mode))

        def info(self, path: str, **_: object) -> dict[str, object]:
            return {"name": path, "size": self._file(path)[1].size_bytes, "type": "file"}

        def exists(self, path: str, **_: object) -> bool:
            return path in files

        def glob(self, path: str, **_: object) -> list[str]:
            path = _ESCAPED.sub(r"\1", path)
            return [path] if path in files else []

        def modified(self, _: str) -> datetime.datetime:
            return _COMMITTED_AT

        def _file(self, path: str, mode: str = "rb") -> tuple[ReadOnlyStore, CommittedFile]:
            if mode != "rb":
                raise PermissionError(f"{path}: the store is only read")
            if path not in files:
                raise FileNotFoundError(f"{path} is no committed file of the store")
            return files[path]

    return CommittedFiles()


class _RangeReader(io.RawIOBase):
    def __init__(self, store: ReadOnlyStore, file: CommittedFile) -> None:
        self._store, self._file, self._position = store, file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = self._file.size_bytes - self._position
        length = left if size < 0 else min(size, left)
        data = self._store.read(self._file.path, self._position, length) if length > 0 else b""
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = (0, self._position, self._file.size_bytes)[whence] + offset
        return self._position
