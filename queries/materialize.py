"""Views kept as Parquet under ``STORE/derived``: a cache that may be deleted at any time.

A file is named by a fingerprint of everything its rows come from. `Database` reads it while the fingerprint
still fits, and computes the view otherwise.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import QueryError, StoreError, one_line
from ..schema.identity import identifier
from ..schema.tables import TABLES
from . import catalog, quoting

if TYPE_CHECKING:
    from .database import Database

__all__ = ["Materialized", "current_file", "materialize"]


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
        Whether it was computed now, rather than found current.
    """

    view: str
    path: Path
    size_bytes: int
    is_new: bool


def materialize(database: "Database", names: Iterable[str]) -> tuple[Materialized, ...]:
    """Compute views and keep their rows, unless what is kept is current; drop what is out of date.

    Parameters
    ----------
    database
        The store's database. What it has answered with before stays as it was; a new one reads the files.
    names
        The views.

    Raises
    ------
    UnknownNameError
        If there is no such view.
    StoreError
        If the store cannot be written, or a committed file is missing or corrupt.
    """
    views = [catalog.view(name) for name in names]
    return tuple(_keep(database, view) for view in views)


def current_file(database: "Database", name: str) -> Path | None:
    """Return the file that holds the rows of a view as the store stands, or None."""
    if not (database.store.path / "derived" / name).is_dir():
        return None
    path = _file(database, name)
    return path if path.exists() else None


def _keep(database: "Database", view: catalog.View) -> Materialized:
    import duckdb

    path = _file(database, view.name)
    is_new = not path.exists()
    database.make(view.name)
    # Of another process that computes the same, the last to finish wins: the rows are the same.
    partial = path.with_name(f".{path.stem}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_new:
            grain = ", ".join(view.grain)
            database.connection.execute(
                f"copy (select * from {view.name} order by {grain}) to {quoting.literal(partial)} "
                "(format parquet, compression zstd, row_group_size 122880)"
            )
            partial.replace(path)
        for other in path.parent.glob("*.parquet"):
            if other != path:
                other.unlink(missing_ok=True)
        return Materialized(view.name, path, path.stat().st_size, is_new)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    except duckdb.Error as error:
        raise QueryError(f"view {view.name}: {one_line(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _file(database: "Database", name: str) -> Path:
    """Return where the rows of a view are kept, named by all that they come from."""
    reads = database.reads(name)
    origin = {
        "macros": catalog.macros(),
        "views": {each: catalog.view(each).sql for each in reads if each not in TABLES},
        "tables": {each: TABLES[each].column_names for each in reads if each in TABLES},
        "files": sorted(file.sha256 for each in reads if each in TABLES for file in database.committed[each]),
    }
    return database.store.path.absolute() / "derived" / name / f"{identifier(origin)}.parquet"
