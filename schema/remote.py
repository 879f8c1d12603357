"""A store at a URL, which is read and never written: its commits from one index, its files by ranges of bytes.

Committed files never change, so what a reader asks of a file (is it there, how large is it) is answered by its commit;
only its bytes are fetched, and of these what a query needs. ``http``, ``https`` and ``s3`` are read by obstore, and a
dataset repository ``hf://datasets/OWNER/NAME`` of the Hugging Face Hub by the same ranges, under the address that
huggingface_hub gives.
"""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from ..errors import StoreError, one_line
from .commits import Commit, CommittedFile, parse_commit
from .store import Store
from .vocabulary import JobKind

if TYPE_CHECKING:
    import duckdb
    from obstore.store import ObjectStore

INDEX = "commits.json"
"""File of a packed store that holds all its commits, for readers that cannot list a folder."""

_PIECE = 64 << 20  # bytes of a file that are fetched at once when it is copied
_COMMITTED_AT = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)  # of all files, for they never change


class RemoteStore(Store):
    """The files of a store at a URL.

    Parameters
    ----------
    url
        ``http(s)://…``, ``s3://BUCKET/…`` or ``hf://datasets/OWNER/NAME``.

    Raises
    ------
    StoreError
        If the URL is of another kind, or a package that reads it is not installed.
    """

    is_remote = True

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.path = Path(self.url)  # in no message, and nothing is there
        self.scheme = self.url.partition("://")[0]
        self.objects = _open_objects(self.url)
        self._commits: tuple[Commit, ...] | None = None

    def __str__(self) -> str:
        return self.url

    def require(self) -> None:
        """Raise a `StoreError` unless the commits can be read."""
        self.commits()

    def job(self, name: str, *, kind: JobKind, resume: bool = True) -> NoReturn:
        """Refuse to write: a `StoreError`."""
        raise StoreError(f"{self} is at a URL, where a store is only read: {name} cannot be added to it")

    def commits(self) -> tuple[Commit, ...]:
        """Return all commits, oldest first, as they were when first read."""
        if self._commits is None:
            self._commits = tuple(sorted(self._read_commits(), key=lambda commit: (commit.committed_at, commit.job)))
        return self._commits

    def refresh(self, commits: tuple[Commit, ...] | None = None) -> None:
        """Read the commits again when they are next asked for, or take them to be these."""
        self._commits = commits

    @property
    def repository(self) -> tuple[str, str | None]:
        """Name and revision of the Hub's dataset repository; a URL of another kind is a `StoreError`."""
        return _repository(self.url)

    def commit(self, job: str) -> Commit | None:
        """Return the commit of `job`, or None if there is none."""
        return next((commit for commit in self.commits() if commit.job == job), None)

    def address(self, file: CommittedFile) -> str:
        """Return the URL of a committed file."""
        return f"{self.url}/{file.path}"

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of a file, all of them without `length`; a `StoreError` says what could not be read."""
        import obstore

        try:
            if length is None:
                return bytes(obstore.get(self.objects, path).bytes())
            return bytes(obstore.get_range(self.objects, path, start=start, length=length))
        except (OSError, obstore.exceptions.BaseError) as error:
            raise StoreError(f"cannot read {self.url}/{path}: {one_line(error)[:200]}") from error

    def open(self, file: CommittedFile) -> IO[bytes]:
        """Return a reader of a committed file."""
        return cast("IO[bytes]", _RangeReader(self, file))

    def copy(self, file: CommittedFile, target: Path) -> None:
        """Download a committed file to a path; its digest is the caller's to check."""
        with target.open("wb") as written:
            for start in range(0, file.size_bytes, _PIECE):
                written.write(self.read(file.path, start, min(_PIECE, file.size_bytes - start)))

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Let a connection read the files."""
        connection.register_filesystem(_file_system(self))

    def _read_commits(self) -> Sequence[Commit]:
        if self.scheme == "s3":  # where a folder can be listed, and an index could lag behind
            return [self._read_commit(path) for path in self._listed()]
        text = self.read(INDEX)
        try:
            listed = json.loads(text)
            if not isinstance(listed, list):
                raise ValueError("it is no list of commits")
            return [parse_commit(fields) for fields in listed]
        except (ValueError, RecursionError) as error:
            raise StoreError(f"cannot read the commits {self.url}/{INDEX}: {one_line(error)}") from error

    def _listed(self) -> list[str]:
        import obstore

        try:
            found = [entry["path"] for page in obstore.list(self.objects, "commits") for entry in page]
        except (OSError, obstore.exceptions.BaseError) as error:
            raise StoreError(f"cannot list {self.url}/commits: {one_line(error)[:200]}") from error
        return sorted(path for path in found if path.endswith(".json"))

    def _read_commit(self, path: str) -> Commit:
        text = self.read(path)
        try:
            return parse_commit(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise StoreError(f"cannot read the commit {self.url}/{path}: {one_line(error)}") from error


def open_store(store: "Store | str | Any") -> Store:  # noqa: ANN401 - any path
    """Return the store in a folder, or at a URL."""
    if isinstance(store, Store):
        return store
    return RemoteStore(store) if isinstance(store, str) and "://" in store else Store(store)


def _open_objects(url: str) -> "ObjectStore":
    scheme = url.partition("://")[0]
    if scheme not in ("http", "https", "s3", "hf"):
        raise StoreError(f"cannot read {url}: a store is a folder, or at http://, https://, s3:// or hf://datasets/")
    from obstore.exceptions import BaseError
    from obstore.store import HTTPStore, S3Store

    address, headers = _hub(url) if scheme == "hf" else (url, {})
    try:
        if scheme == "s3":
            return S3Store.from_url(url, client_options={"allow_http": True})
        return HTTPStore.from_url(address, client_options={"allow_http": True, "default_headers": headers})
    except (BaseError, ValueError) as error:
        raise StoreError(f"cannot read {url}: {one_line(error)[:200]}") from error


def _repository(url: str) -> tuple[str, str | None]:
    kind, _, name = url.partition("://")[2].partition("/")
    name, _, revision = name.partition("@")
    if not url.startswith("hf://") or kind != "datasets" or name.count("/") != 1:
        raise StoreError(f"{url} is no dataset repository: hf://datasets/OWNER/NAME, or …/NAME@REVISION")
    return name, revision or None


def _hub(url: str) -> tuple[str, dict[str, str]]:
    """Return the address of a dataset repository on the Hub, and the headers that let its reader in."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    repository, revision = _repository(url)
    address = hf_hub_url(repository, INDEX, repo_type="dataset", revision=revision)
    return address.removesuffix(f"/{INDEX}"), dict(build_hf_headers())


def _file_system(store: RemoteStore) -> Any:  # noqa: ANN401 - fsspec has no types
    """Return an fsspec file system that knows the committed files of a store alone, and reads ranges of them."""
    from fsspec import AbstractFileSystem

    sizes = {store.address(file): file for commit in store.commits() for file in commit.files}

    class CommittedFiles(AbstractFileSystem):  # type: ignore[misc]
        protocol = store.scheme
        cachable = False

        def open(self, path: str, mode: str = "rb", **_: object) -> "_RangeReader":
            return _RangeReader(store, self._file(path, mode))

        def info(self, path: str, **_: object) -> dict[str, object]:
            return {"name": path, "size": self._file(path).size_bytes, "type": "file"}

        def exists(self, path: str, **_: object) -> bool:
            return path in sizes

        def glob(self, path: str, **_: object) -> list[str]:
            return [path] if path in sizes else []

        def modified(self, _: str) -> datetime.datetime:
            return _COMMITTED_AT

        def _file(self, path: str, mode: str = "rb") -> CommittedFile:
            if mode != "rb":
                raise PermissionError(f"{path}: a store at a URL is only read")
            if path not in sizes:
                raise FileNotFoundError(f"{path} is no committed file of {store.url}")
            return sizes[path]

    return CommittedFiles()


class _RangeReader:
    """A committed file, read by ranges."""

    closed = False

    def __init__(self, store: RemoteStore, file: CommittedFile) -> None:
        self._store, self._file, self._position = store, file, 0

    def read(self, size: int = -1) -> bytes:
        left = self._file.size_bytes - self._position
        length = left if size < 0 else min(size, left)
        data = self._store.read(self._file.path, self._position, length) if length > 0 else b""
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = (0, self._position, self._file.size_bytes)[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        pass

    def flush(self) -> None:
        pass
