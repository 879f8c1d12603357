"""Copies of one job in several stores: which is kept where they are made one, and which cannot be one."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import StoreError
from ..commits import Commit
from ..disk import store_errors
from ..names import identifier
from ..store import Store
from ..tables import TABLES


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
        n_lacking = 0
        for file in self.commit.files:
            texts = {column.name for column in TABLES[file.table].columns if column.holds_text}
            if texts:
                with store_errors(f"cannot read {self.store.address(file)}", pa.ArrowException, UnicodeDecodeError):
                    n_lacking += len(texts - {*pq.read_schema(self.store.open(file)).names})
        return n_lacking

    def values(self, tables: Sequence[str], columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """Return columns of some tables, row by row."""
        rows: list[tuple[Any, ...]] = []
        for file in self.commit.files:
            if file.table in tables:
                unreadable = (pa.ArrowException, KeyError, UnicodeDecodeError)
                with store_errors(f"cannot read {self.store.address(file)}", *unreadable):
                    found = pq.ParquetFile(self.store.open(file)).read(columns=list(columns))
                    rows += zip(*(found.column(name).to_pylist() for name in columns), strict=True)
        return rows


def copies(stores: Sequence[Store]) -> Mapping[str, list[Copy]]:
    """Return the copies of every job, by its name."""
    found = defaultdict(list)
    for store in stores:
        for commit in store.commits():
            found[commit.job].append(Copy(store, commit))
    return found


def kept(of: Sequence[Copy]) -> Copy:
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
                raise StoreError(
                    f"corpus {name!r} is another in {other} (digest {other_digest[:16]}) than in {copy.store} "
                    f"({digest[:16]}): stores are made one if a name means the same in both"
                )
