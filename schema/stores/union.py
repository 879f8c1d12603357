"""Several stores read as one, and which kind of store a name stands for."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ...errors import StoreError, joined
from ..commits import Commit, CommittedFile
from ..store import Store
from .reading import ReadOnlyStore, attach

if TYPE_CHECKING:
    import duckdb

Place = Store | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Where a store is: its folder, a pack in one file, a URL; or several, read as one."""


class UnionStore(ReadOnlyStore):
    """The jobs of several stores, each of them once.

    Of a job that several hold, the copy is read that a merge would keep. Contents are not compared, as a merge does,
    but for the digests of corpora: two that mean other texts by one name are a `StoreError`.
    """

    def __init__(self, stores: Sequence[str | os.PathLike[str]]) -> None:
        if not stores:
            raise StoreError("no store is named")
        self.parts = [open_store(store) for store in stores]
        super().__init__(joined(self.parts))
        self._homes: dict[str, Store] = {}
        self.several: dict[str, Store] = {}  # jobs whose copies differ: where the one that is read stands

    def require(self) -> None:
        """Raise a `StoreError` unless all are stores."""
        for part in self.parts:
            part.require()
        self.commits()

    def read_commits(self) -> Sequence[Commit]:
        """Return the commits, in any order."""
        from .copies import check_corpora, copies, kept

        commits = []
        for job, group in copies(self.parts).items():
            chosen = kept(group)
            if len({copy.digest for copy in group}) > 1:
                check_corpora(copy for copy in group if copy.commit.kind == "corpus")
                self.several[job] = chosen.store
            self._homes.update((file.path, chosen.store) for file in chosen.commit.files)
            commits.append(chosen.commit)
        return commits

    def address(self, file: CommittedFile) -> str:
        """Return where a committed file is read."""
        return self._homes[file.path].address(file)

    def open(self, file: CommittedFile) -> Path | IO[bytes]:
        """Return a committed file as pyarrow reads it."""
        return self._homes[file.path].open(file)

    def fetch(self, file: CommittedFile, target: Path) -> None:
        """Copy the bytes of a committed file to a path, whatever they are."""
        self._homes[file.path].fetch(file, target)

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Let a connection read the files."""
        attach([part for part in self.parts if isinstance(part, ReadOnlyStore)], connection)


def open_store(store: Place) -> Store:
    """Return the store in a folder, in one file, or at a URL; of several names, their union."""
    if isinstance(store, Store):
        return store
    if not isinstance(store, str | os.PathLike):
        return UnionStore(store) if len(store) != 1 else open_store(store[0])
    if "://" in (name := os.fspath(store)):
        from .remote import RemoteStore

        return RemoteStore(name)
    if name.endswith(".zip") and not Path(name).is_dir():
        from .archive import ArchiveStore

        return ArchiveStore(name)
    return Store(name)
