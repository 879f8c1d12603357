"""Several stores as one, the copies of one job in several stores, and which kind of store a name stands for."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...errors import StoreError, joined
from ..commits import Commit, CommittedFile
from ..names import identifier
from ..store import Store
from ..tables import TABLES
from .reading import ReadOnlyStore

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
        parts = [open_store(store) for store in stores]
        super().__init__(joined(parts))
        self.parts = parts
        self._homes: dict[str, Store] = {}
        self.several: dict[str, Store] = {}  # jobs whose copies differ: where the one that is read stands

    def require(self) -> None:
        """Raise a `StoreError` unless all are stores."""
        for part in self.parts:
            part.require()
        self.commits()

    def read_commits(self) -> Sequence[Commit]:
        """Return the commits, in any order."""
        commits = []
        for job, group in copies(self.parts).items():
            chosen = copy_kept(group)
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


def open_store(store: Place) -> Store:
    """Return the store in a folder, in one file, or at a URL; of several names, their union."""
    if isinstance(store, Store):
        return store
    if not isinstance(store, str | os.PathLike):
        return UnionStore(store) if len(store) != 1 else open_store(store[0])
    is_remote = "://" in (name := os.fspath(store))
    if is_remote or (name.endswith(".zip") and not Path(name).is_dir()):
        from .remote import ArchiveStore, RemoteStore

        return RemoteStore(name) if is_remote else ArchiveStore(name)
    return Store(name)


@dataclass(frozen=True, slots=True)
class Copy:
    """A job as one of the stores holds it."""

    store: Store
    commit: Commit

    @property
    def digest(self) -> str:
        """The digest of its files."""
        return identifier({"files": [[file.path, file.sha256] for file in self.commit.files]})

    @property
    def n_lacking(self) -> int:
        """How many columns of text its files are without, as those of a pack may be."""
        from .. import parquet

        n_lacking = 0
        for file in self.commit.files:
            texts = {column.name for column in TABLES[file.table].columns if column.holds_text}
            if texts:
                with parquet.opened(self.store, file) as opened:
                    n_lacking += len(texts - {*opened.schema_arrow.names})
        return n_lacking

    def values(self, tables: Sequence[str], columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """Return columns of some tables, row by row."""
        from .. import parquet

        rows: list[tuple[Any, ...]] = []
        for file in self.commit.files:
            if file.table in tables:
                with parquet.opened(self.store, file) as opened:
                    found = opened.read(columns=list(columns))
                    rows += zip(*(found.column(name).to_pylist() for name in columns), strict=True)
        return rows


def copies(stores: Sequence[Store]) -> Mapping[str, list[Copy]]:
    """Return the copies of every job, by its name."""
    found = defaultdict(list)
    for store in stores:
        for commit in store.commits():
            found[commit.job].append(Copy(store, commit))
    return found


def copy_kept(of: Sequence[Copy]) -> Copy:
    """Return the copy that stands for all: most texts, smallest digest, and of the same files the first committed."""
    differ = len({copy.digest for copy in of}) > 1
    return min(
        of, key=lambda copy: (differ and copy.n_lacking, copy.digest, copy.commit.committed_at, repr(copy.commit))
    )


def check_corpora(among: Iterable[Copy]) -> None:
    """Raise a `StoreError` if stores mean different texts or labels by a corpus of one name."""
    tables = [name for name, declared in TABLES.items() if {"corpus", "corpus_sha256"} <= {*declared.column_names}]
    found: dict[str, tuple[str, Store]] = {}
    for copy in among:
        for name, digest in copy.values(tables, ("corpus", "corpus_sha256")):
            if digest is None:
                continue
            other_digest, other = found.setdefault(name, (digest, copy.store))
            if other_digest != digest:
                stores = f"in {other} (digest {other_digest[:16]}) than in {copy.store} ({digest[:16]})"
                why = "stores are made one if a name means the same in both"
                raise StoreError(f"corpus {name!r} is another {stores}: {why}")
