"""Rows of views kept as Parquet under ``STORE/derived``: a cache that may be deleted at any time.

A file is called ``<view>/<fingerprint>-<sha256>.parquet``: a digest of everything that the rows come from, and a digest
of the file; one of a single run's rows ends in ``-<run_id>-0.parquet``. It is read only where both are right. A reader
locks the file, so that nobody removes it meanwhile; a writer locks the folder of the view, so that an unfinished file
in a folder without a lock is known to be garbage.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..engines.engine import Engine, SerialEngine, Work
from ..errors import StoreError
from ..progress import Progress, Shown, silently
from ..schema.disk import exclusive, store_errors
from ..schema.leftovers import Problem
from ..schema.names import file_sha256
from ..schema.store import Store
from . import catalog, quoting

if TYPE_CHECKING:
    from .database import Database

_KEPT = re.compile(r"[0-9a-f]{16}(-(?P<sha256>[0-9a-f]{64})(-(?P<run_id>[^/-]+)-0)?)?\.parquet")
_PARTIAL = re.compile(r"\.[0-9a-f]{16}\.\d+")

_UNFINISHED = "left by a process that was stopped while it kept a view"
_UNSIGNED = "has no digest in its name, and so is not read; 'neuronlake materialize' keeps it anew"
_ALTERED = "altered since it was kept, and so not read; 'neuronlake materialize' keeps it anew"
_FOREIGN = "no file that neuronlake keeps there, and so not read"
_GARBAGE = (_UNFINISHED, _UNSIGNED, _ALTERED)


def folder_of(store: Store, view: str) -> Path:
    """Return where the rows of a view are kept."""
    return store.path.absolute() / "derived" / view


def open_kept(store: Store, view: str, fingerprint: str, run_id: str | None = None) -> IO[bytes] | None:
    """Return the open file of a view's rows, or of a run's, locked against removal until it is closed; or None."""
    for path in _current(store, view, fingerprint, run_id):
        if _problem(path) is None:
            with contextlib.suppress(FileNotFoundError):
                file = path.open("rb")
                # Where a file system has no locks, the file may go: `Database` then computes the view.
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                if path.exists():
                    return file
                file.close()
    return None


def reason(store: Store, view: str, fingerprint: str, run_id: str | None = None) -> str | None:
    """Return why the kept files of a view, as in `open_kept`, are not read; None if there are none, or one is right."""
    kept = [path for path in _files(folder_of(store, view)) if _KEPT.fullmatch(path.name)]
    faults = [_problem(path) for path in _current(store, view, fingerprint, run_id)]
    return None if None in faults or not kept else faults[0] if faults else "out of date"


def problems(store: Store) -> tuple[Problem, ...]:
    """Return the problems under ``derived``: files that are altered, without a digest, foreign or unfinished."""
    root = store.path / "derived"
    if os.path.lexists(root) and (root.is_symlink() or not _is_folder(root)):
        return (Problem("derived", "no folder, and so not read"),)
    places = [root, *_files(root)]
    folders = {place for place in places if _is_folder(place)}
    files = [path for place in places[1:] for path in (_files(place) if place in folders else [place])]
    faults = [(path, _problem(path)) for path in files]
    faults += [(place, "cannot be listed") for place in sorted(folders) if not os.access(place, os.R_OK)]
    return tuple(Problem(path.relative_to(store.path).as_posix(), what) for path, what in faults if what)


def remove_useless(store: Store) -> tuple[Problem, ...]:
    """Remove the files that `problems` reports, except foreign and unreadable ones; return what was removed and why."""
    garbage = (problem for problem in problems(store) if problem.what in _GARBAGE)
    removed = (problem for problem in garbage if _remove(store.path / problem.path))
    return tuple(Problem(problem.path, f"removed: {problem.what}") for problem in removed)


def _problem(path: Path) -> str | None:
    named = _KEPT.fullmatch(path.name)
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or not (named or _PARTIAL.fullmatch(path.name)):
            return _FOREIGN
        if named is None:
            with exclusive(path.parent, waits=False) as lock:
                return None if lock is None else _UNFINISHED
        if named["sha256"] is None:
            return _UNSIGNED
        with path.open("rb") as file:
            return None if hashlib.file_digest(file, "sha256").hexdigest() == named["sha256"] else _ALTERED
    except FileNotFoundError:
        return None  # removed meanwhile
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _remove(path: Path) -> bool:
    """Remove a file unless somebody reads it, and return whether it is gone."""
    with store_errors(f"cannot remove {path}"), exclusive(path, waits=False) as lock:
        if lock is not None:
            path.unlink()
        return lock is not None


def _current(store: Store, view: str, fingerprint: str, run_id: str | None) -> list[Path]:
    """Return the files that are named as the rows of a view, or of a run, as the store stands."""
    named = [(path, _KEPT.fullmatch(path.name)) for path in _files(folder_of(store, view))]
    return [path for path, match in named if match and path.name.startswith(fingerprint) and match["run_id"] == run_id]


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where it may not be asked


def _files(place: Path) -> list[Path]:
    """Return what lies in a folder; nothing where it is none, or may not be listed."""
    try:
        return sorted(place.iterdir())
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Materialized:
    """A view, or its rows of one run, kept as Parquet."""

    view: str
    run_id: str | None  # None of all runs
    path: Path
    size_bytes: int
    is_new: bool  # whether it was computed now; False if a current file was there


def materialize(
    database: "Database", names: Iterable[str], *, engine: Engine | None = None, progress: Shown | None = None
) -> tuple[Materialized, ...]:
    """Compute views and keep their rows as Parquet, unless a current file is there; remove outdated files.

    Views of the scores of neurons are kept run by run, so that only what was added since is computed.

    Parameters
    ----------
    database, names
        The store's database, which reads the files after its next `refresh`, and the views.
    engine
        Where they are computed: in this process one after another if None, or by `RayEngine` in several.
    progress
        Opens where to report, such as `progress.show_progress`.

    Returns
    -------
    tuple of Materialized
        In the order of the names, and of the runs.

    Raises
    ------
    UnknownNameError, StoreError, EngineError
        If there is no such view; if the store cannot be written, or a committed file is missing or corrupt; if the
        engine lacks what it needs.

    Examples
    --------
    >>> (kept,) = neuronlake.materialize(neuronlake.open("neuronlake-store"), ["specialization"])
    >>> kept.view, kept.is_new
    ('specialization', True)
    """
    if database.store.is_read_only:
        raise StoreError(f"{database.store} is only read: the rows of views cannot be kept in it")
    views = [catalog.view(name) for name in names]
    engine, progress = engine or SerialEngine(), progress or silently
    return tuple(kept for view in views for kept in _keep(database, view, engine, progress))


_Piece = tuple[str, str, str | None, str]  # what a file holds: the store's folder, view, run and fingerprint


def _keep(database: "Database", view: catalog.View, engine: Engine, progress: Shown) -> list[Materialized]:
    folder = folder_of(database.store, view.name)
    with store_errors(f"cannot write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        # Of several processes that compute the same, one does, and the others find it done.
        with exclusive(folder):
            paths: dict[_Piece, Path | None] = {}
            for run_id in database.pieces(view.name):
                fingerprint = database.fingerprint(view.name, run_id)
                with open_kept(database.store, view.name, fingerprint, run_id) or contextlib.nullcontext() as kept:
                    piece = (database.store.root, view.name, run_id, fingerprint)
                    paths[piece] = Path(kept.name) if kept else None
            lacking = [piece for piece, path in paths.items() if path is None]
            here = functools.partial(_write, database)
            work = Work(
                tasks=lacking,
                do=here if isinstance(engine, SerialEngine) else _write_elsewhere,
                unit="pieces",
                label=lambda piece: " ".join(filter(None, piece[1:3])),
            )
            for place, path in engine.run(work, progress):
                paths[lacking[place]] = path
            pieces = [
                Materialized(view.name, piece[2], path, path.stat().st_size, is_new=piece in lacking)
                for piece, path in paths.items()
                if path is not None
            ]
            others = {*_files(folder)} - {piece.path for piece in pieces}
            for other in (path for path in others if _KEPT.fullmatch(path.name) or _PARTIAL.fullmatch(path.name)):
                _remove(other)  # unless somebody reads it
    return pieces


def _write_elsewhere(piece: _Piece, progress: Progress) -> Path:
    """Write a piece in another process than that of the database that asks for it."""
    from .database import Database

    with Database(piece[0]) as database:
        return _write(database, piece, progress)


def _write(database: "Database", piece: _Piece, _: Progress) -> Path:
    """Compute a view, or its rows of a run, into its folder and return the file."""
    name, run_id, fingerprint = piece[1:]
    folder = folder_of(database.store, name)
    partial = folder / f".{fingerprint}.{os.getpid()}"
    database.make(name)
    of_run = f" where run_id = {quoting.literal(run_id)}" if run_id else ""
    rows = f"from {name}{of_run} order by {', '.join(catalog.view(name).grain)}"
    try:
        with database.explained(name):
            how = "format parquet, compression zstd, row_group_size 122880"
            database.connection.execute(f"copy ({rows}) to {quoting.literal(partial)} ({how})")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        suffix = f"-{run_id}-0.parquet" if run_id else ".parquet"
        return partial.replace(folder / f"{fingerprint}-{file_sha256(partial)}{suffix}")
    finally:
        partial.unlink(missing_ok=True)
