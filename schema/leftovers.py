"""What killed jobs leave in a store: what the same job goes on with, and what is proven to be of no use to anyone.

A killed job leaves its folder in ``.staging``, whose lock nobody holds then, and, if it was committing, files under
``data`` that are in no commit. All here is asked and done while ``.staging`` is held, so that no job starts meanwhile.
"""

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from . import disk
from .commits import Place, neuronlake_version
from .store import Problem, Store
from .tables import SCHEMA_VERSION

__all__ = ["State", "begin", "data_files", "remove", "states"]

State = Literal["running", "unfinished", "garbage"]
"""Of a folder in ``.staging``: its job runs; or was killed, and goes on when started again; or nothing comes of it."""

# What lies in a job's folder beside its parts and what it keeps for its next attempt.
_OWN = frozenset(("lock", "writer.json", "writer.partial", "card.md", "commit.json"))


def begin(staging: Path, *, resume: bool) -> None:
    """Note in a job's folder who writes it, and drop what an earlier attempt staged unless it is to be kept.

    Parts that another version staged are dropped too: its code may compute something else.
    """
    writer = staging / "writer.json"
    version = {"neuronlake_version": neuronlake_version(), "schema_version": SCHEMA_VERSION}
    text = json.dumps(version if resume else {**version, "resume": False})
    is_same = writer.exists() and writer.read_text(encoding="utf-8", errors="replace") == text
    if not (resume and is_same):
        for folder in staging.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)
    if not is_same:
        disk.replace_text(writer, text, staging / "writer.partial")


def states(store: Store) -> Mapping[str, State]:
    """Return what each folder of work in progress is, by its name."""
    return _find(store, everywhere=False)[0]


def remove(store: Store, *, everywhere: bool = False) -> list[Problem]:
    """Remove what is of no use, and give back to unfinished jobs what they had moved to ``data``.

    Of files under ``data`` in no commit, only those that a killed job is proven to have left are touched: its folder is
    there still, or its commit is and does not name them.

    Parameters
    ----------
    store
        The store, whose ``.staging`` is held.
    everywhere
        Whether to look under ``data`` even where no folder of work in progress tells that a job was killed.

    Returns
    -------
    what was done
    """
    done: list[Problem] = []

    def attempt(act: Callable[[], object], path: str, what: str) -> None:
        # Of a folder that many share, some of it may be for others alone to remove.
        try:
            act()
        except OSError as error:
            what = f"cannot be removed: {error.strerror}"
        done.append(Problem(path, what))

    found, strays = _find(store, everywhere=everywhere)
    removed = "removed: left by a job that was killed"
    for path, place in strays:
        moved, state = store.path / path, found.get(place.job)
        staged = store.staging.joinpath(place.job, *path.split("/")[1:])
        if state == "unfinished" and not staged.exists():
            attempt(functools.partial(_move, moved, staged), path, "given back to its job, which is not committed")
        elif state is not None or _is_committed(store, place.job):
            attempt(moved.unlink, path, removed)
    for name, state in found.items():
        if state == "garbage":
            attempt(functools.partial(shutil.rmtree, store.staging / name), f".staging/{name}", removed)
    return done


def data_files(store: Store) -> Iterator[tuple[str, OSError | None]]:
    """Yield all under ``data`` but folders, as paths relative to the store; with an error, a folder not looked into."""
    errors: list[OSError] = []
    for folder, folders, names in os.walk(store.path / "data", onerror=errors.append):
        links = [name for name in folders if Path(folder, name).is_symlink()]  # which are not walked into
        for name in sorted([*names, *links]):
            yield Path(folder, name).relative_to(store.path).as_posix(), None
    for error in errors:
        if not isinstance(error, FileNotFoundError):
            yield Path(error.filename).relative_to(store.path).as_posix(), error


def _find(store: Store, *, everywhere: bool) -> tuple[dict[str, State], list[tuple[str, Place]]]:
    """Return the state of each folder in ``.staging``, and the files under ``data`` that no job runs or commits."""
    folders = [folder for folder in sorted(store.staging.iterdir()) if folder.is_dir()]
    idle = [folder for folder in folders if not disk.is_held(folder / "lock")]
    found: dict[str, State] = {folder.name: "running" for folder in folders if folder not in idle}
    strays: list[tuple[str, Place]] = []
    if idle or everywhere:
        committed = {file.path for commit in store.commits() for file in commit.files}
        unknown = [path for path, error in data_files(store) if error is None and path not in committed]
        places = [(path, Place.of(path)) for path in unknown]
        strays = [(path, place) for path, place in places if place is not None and place.job not in found]
    moved = {place.job for _, place in strays}
    for folder in idle:
        has_parts = folder.name in moved or _holds_parts(folder)
        goes_on = has_parts and _is_resumable(folder) and not _is_committed(store, folder.name)
        found[folder.name] = "unfinished" if goes_on else "garbage"
    return found, strays


def _is_committed(store: Store, job: str) -> bool:
    return os.path.lexists(store.path / "commits" / f"{job}.json")


def _holds_parts(staging: Path) -> bool:
    """Return whether a job's folder holds anything that was finished."""
    kept = (entry for entry in staging.iterdir() if entry.name not in _OWN)
    return any(path.is_file() and path.suffix != ".partial" for entry in kept for path in (entry, *entry.rglob("*")))


def _is_resumable(staging: Path) -> bool:
    try:
        written = json.loads((staging / "writer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not (isinstance(written, dict) and written.get("resume") is False)


def _move(path: Path, to: Path) -> None:
    disk.make_folder(to.parent)
    path.replace(to)
