"""Computing views and keeping their rows in the cache, as ``neuronlake materialize`` does."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from ..errors import QueryError, StoreError, one_line
from ..schema.disk import exclusive, store_errors
from ..schema.names import file_sha256
from . import cache, catalog, quoting
from .database import Database


@dataclass(frozen=True, slots=True)
class Materialized:
    """A view, or its rows of one run, kept as Parquet."""

    view: str
    run_id: str | None  # None of all runs
    path: Path
    size_bytes: int
    is_new: bool  # whether it was computed now; False if a current file was there


def materialize(database: Database, names: Iterable[str]) -> tuple[Materialized, ...]:
    """Compute views and keep their rows as Parquet, unless a current file is there; remove outdated files.

    Views of the scores of neurons are kept run by run, so that only what was added since is computed.

    Parameters
    ----------
    database
        The store's database, which reads the files after its next `refresh`.
    names
        The views.

    Returns
    -------
    tuple of Materialized
        In the order of the names, and of the runs.

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
    return tuple(kept for view in views for kept in _keep(database, view))


def _keep(database: Database, view: catalog.View) -> list[Materialized]:
    folder = cache.folder(database.store, view.name)
    pieces = []
    with store_errors(f"cannot write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        # Of several processes that compute the same, one does, and the others find it done.
        with exclusive(folder):
            for run_id in database.pieces(view.name):
                fingerprint = database.fingerprint(view.name, run_id)
                kept = cache.open_kept(database.store, view.name, fingerprint, run_id)
                path = Path(kept.name) if kept else _write(database, view, folder, run_id, fingerprint)
                if kept:
                    kept.close()
                pieces.append(Materialized(view.name, run_id, path, path.stat().st_size, is_new=kept is None))
            cache.remove_others(folder, {piece.path for piece in pieces})
    return pieces


def _write(database: Database, view: catalog.View, folder: Path, run_id: str | None, fingerprint: str) -> Path:
    """Compute a view, or its rows of a run, into its folder and return the file."""
    partial = folder / f".{fingerprint}.{os.getpid()}"
    database.make(view.name)
    rows = f"from {view.name}" + (f" where run_id = {quoting.literal(run_id)}" if run_id else "")
    try:
        database.connection.execute(
            f"copy ({rows} order by {', '.join(view.grain)}) to {quoting.literal(partial)} "
            "(format parquet, compression zstd, row_group_size 122880)"
        )
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        return partial.replace(folder / cache.file_name(fingerprint, file_sha256(partial), run_id))
    except duckdb.Error as error:
        raise QueryError(f"view {view.name}: {one_line(error)}") from error
    finally:
        partial.unlink(missing_ok=True)
