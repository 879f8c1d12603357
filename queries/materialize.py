"""Computing views and keeping their rows in the cache, as ``neuronlake materialize`` does."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from ..errors import QueryError, StoreError, one_line
from ..schema.disk import exclusive, store_errors
from ..schema.identity import file_sha256
from . import cache, catalog, quoting
from .database import Database


@dataclass(frozen=True, slots=True)
class Materialized:
    """A view kept as Parquet.

    Parameters
    ----------
    view
        Its name.
    path
        The file.
    size_bytes
        Its size.
    is_new
        Whether it was computed now; False if a current file was there.
    """

    view: str
    path: Path
    size_bytes: int
    is_new: bool


def materialize(database: Database, names: Iterable[str]) -> tuple[Materialized, ...]:
    """Compute views and keep their rows as Parquet, unless a current file is there; remove outdated files.

    Parameters
    ----------
    database
        The store's database, which reads the files after its next `refresh`.
    names
        The views.

    Returns
    -------
    tuple of Materialized
        In the order of the names.

    Raises
    ------
    UnknownNameError
        If there is no such view.
    StoreError
        If the store cannot be written, or a committed file is missing or corrupt.

    Examples
    --------
    >>> (kept,) = neuronlake.materialize(neuronlake.open("neuronlake-store"), ["specialization"])
    >>> kept.view, kept.is_new
    ('specialization', True)
    """
    if database.store.is_read_only:
        raise StoreError(f"{database.store} is only read: the rows of views cannot be kept in it")
    views = [catalog.view(name) for name in names]
    return tuple(_keep(database, view) for view in views)


def _keep(database: Database, view: catalog.View) -> Materialized:
    folder = cache.folder(database.store, view.name)
    with store_errors(f"cannot write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        # Of several processes that compute the same, one does, and the others find it done.
        with exclusive(folder):
            kept = cache.open_kept(database.store, view.name, database.fingerprint(view.name))
            path = Path(kept.name) if kept else _write(database, view, folder)
            cache.remove_others(path)
            if kept:
                kept.close()
            return Materialized(view.name, path, path.stat().st_size, is_new=kept is None)


def _write(database: Database, view: catalog.View, folder: Path) -> Path:
    """Compute a view into its folder and return the file."""
    fingerprint = database.fingerprint(view.name)
    partial = folder / f".{fingerprint}.{os.getpid()}"
    database.make(view.name)
    try:
        database.connection.execute(
            f"copy (select * from {view.name} order by {', '.join(view.grain)}) to {quoting.literal(partial)} "
            "(format parquet, compression zstd, row_group_size 122880)"
        )
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        return partial.replace(folder / f"{fingerprint}-{file_sha256(partial)}.parquet")
    except duckdb.Error as error:
        raise QueryError(f"view {view.name}: {one_line(error)}") from error
    finally:
        partial.unlink(missing_ok=True)
