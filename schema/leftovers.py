"""What killed jobs leave in a store: parts that the same job goes on with, and what is proven to be of no use.

A killed job leaves its folder in ``.staging``, which no process has locked, and, if it was committing, files under
``data`` that are in no commit. While that is looked at, ``.staging`` is locked, so that no job starts.

On a disk without locks, as some network file systems are, a process works on a job in a folder of its own, called
``<job>=<host>=<process>=<its start>=<token>``. What an earlier attempt left it takes over by renaming, which only one
of several processes can do: a folder ``<job>`` that was given back, or one of this machine whose process is gone. Of a
process that was killed on another machine nobody here can tell, so that its job starts over.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import StoreError, joined
from . import card, disk
from .commits import COPY, file_name, neuronlake_version, read_commits
from .names import STAGING, Place, folder_name
from .tables import SCHEMA_VERSION

State = Literal["running", "unfinished", "garbage"]
"""What a folder in ``.staging`` is. ``running``: its job runs. ``unfinished``: its job was killed, and goes on when
started again. ``garbage``: of no use to any job."""

# What lies in a job's folder beside its parts and what it keeps for its next attempt.
_OWN = frozenset(("lock", "writer.json", "writer.partial", "card.md", "commit.json"))


@dataclass(frozen=True, slots=True)
class Problem:
    """A path of a store, and what is wrong with it or was done about it."""

    path: str
    what: str


def begin(staging: Path, *, resume: bool) -> None:
    """Prepare a job's folder for an attempt: note the version that writes it; drop earlier parts unless `resume`."""
    writer = staging / "writer.json"
    version = {"neuronlake_version": neuronlake_version(), "schema_version": SCHEMA_VERSION}
    text = json.dumps(version if resume else {**version, "resume": False})
    is_same = writer.exists() and writer.read_text(encoding="utf-8", errors="replace") == text
    if not (resume and is_same):  # the code of another version may compute something else
        for folder in filter(Path.is_dir, staging.iterdir()):
            shutil.rmtree(folder)
    if not is_same:
        disk.replace_text(writer, text, staging / "writer.partial")


def end_unlocked(staging: Path) -> None:
    """End an attempt on a disk without locks: leave the job's folder to the next, or remove it if it is of no use."""
    if _has_parts(staging) and _is_resumable(staging):
        with contextlib.suppress(OSError):  # where another was left meanwhile
            staging.rename(staging.with_name(job_of(staging.name)))
            return
    shutil.rmtree(staging, ignore_errors=True)


def states(store: Path) -> Mapping[str, State]:
    """Return the state of every folder in ``.staging`` by its name, which is that of its job in paths."""
    staging = store / STAGING
    if not staging.is_dir():
        return {}
    with disk.store_errors(f"cannot read {staging}"), disk.locked(staging, is_needed=False):
        return _find(store, everywhere=False)[0]


def remove(store: Path, *, everywhere: bool = False) -> list[Problem]:
    """Remove what is of no use, give unfinished jobs back their parts under ``data``, and return what was done.

    The caller holds the lock of ``.staging``. A file under ``data`` that is in no commit is only touched where a killed
    job is proven to have left it: the job's folder is still there, or its commit is and does not name the file.
    ``data`` is searched if a job's folder shows that one was killed, or `everywhere` is true.
    """
    done: list[Problem] = []
    by_job, strays = _find(store, everywhere=everywhere)
    for path, place in strays:
        state = by_job.get(place.job)
        part = store / STAGING / place.job / path.removeprefix("data/")
        if state == "unfinished" and not part.exists():
            done.append(Problem(path, _discard(store / path, move_to=part)))
        elif state is not None or _is_committed(store, place.job):
            done.append(Problem(path, _discard(store / path)))
    garbage = [f"{STAGING}/{name}" for name, state in by_job.items() if state == "garbage"]
    return done + [Problem(path, _discard(store / path)) for path in garbage]


def withdraw(store: Path, jobs: Sequence[str]) -> None:
    """Remove committed jobs in the order given: of each the commit, with which readers lose it whole, then its files.

    The caller holds the lock of ``.staging``. Killed on the way, this leaves files that the next job, or a repair,
    removes: before its commit goes, each job gets a folder of the kind that a killed job leaves.
    """
    remove(store)
    if running := [name for name, state in _find(store, everywhere=False)[0].items() if state == "running"]:
        raise StoreError(f"a job is running in {store} and may use what is to go: {joined(running)}; wait for it")
    for job in jobs:
        staging = store / STAGING / folder_name(job)
        disk.make_folder(staging)
        begin(staging, resume=False)
        copied = COPY.format(file_name(job))
        copies = [name for name, reason in read_commits(store)[1].items() if reason == copied]
        for name in (*copies, file_name(job)):
            (store / "commits" / name).unlink()
            disk.sync(store / "commits")
    commits = read_commits(store)[0]
    disk.replace_text(store / "README.md", card.text(commits), store / STAGING / "card.md")
    if stays := [problem for problem in remove(store) if problem.what.startswith("cannot")]:
        raise StoreError(f"{joined(jobs)} removed from {store}, but {stays[0].path} {stays[0].what}")


def data_files(store: Path) -> Iterator[tuple[str, OSError | None]]:
    """Yield the files and links below ``data``, relative to the store, with None; then unreadable folders, with why."""
    errors: list[OSError] = []
    for folder, folders, names in os.walk(store / "data", onerror=errors.append):
        links = [name for name in folders if Path(folder, name).is_symlink()]  # which are not walked into
        for name in sorted([*names, *links]):
            yield Path(folder, name).relative_to(store).as_posix(), None
    for error in errors:
        if not isinstance(error, FileNotFoundError):
            yield Path(error.filename).relative_to(store).as_posix(), error


def _discard(path: Path, *, move_to: Path | None = None) -> str:
    """Remove or move a file or folder; return what was done, or why it cannot be, as in a folder of another user."""
    try:
        if move_to is not None:
            disk.make_folder(move_to.parent)
            path.replace(move_to)
            return "given back to its job, which is not committed"
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        return f"cannot be removed: {error.strerror}"
    return "removed: left by a job that was killed"


def _find(store: Path, *, everywhere: bool) -> tuple[dict[str, State], list[tuple[str, Place]]]:
    """Return the states of the folders in ``.staging``, and the files under ``data`` that no job runs or commits."""
    folders = [folder for folder in sorted((store / STAGING).iterdir()) if folder.is_dir()]
    idle = [folder for folder in folders if not is_held(folder)]
    by_job: dict[str, State] = {folder.name: "running" for folder in folders if folder not in idle}
    strays: list[tuple[str, Place]] = []
    if idle or everywhere:
        committed = {file.path for commit in read_commits(store)[0] for file in commit.files}
        unknown = [path for path, error in data_files(store) if error is None and path not in committed]
        places = [(path, Place.of(path)) for path in unknown]
        strays = [(path, place) for path, place in places if place is not None and place.job not in by_job]
    moved = {place.job for _, place in strays}
    for folder in idle:
        has_parts = folder.name in moved or _has_parts(folder)
        goes_on = has_parts and _is_resumable(folder) and not _is_committed(store, job_of(folder.name))
        by_job[folder.name] = "unfinished" if goes_on else "garbage"
    return by_job, strays


def _is_committed(store: Path, job: str) -> bool:
    """Return whether a job has a commit; `job` is its name in paths."""
    return os.path.lexists(store / "commits" / f"{job}.json")


def _has_parts(staging: Path) -> bool:
    """Return whether a job's folder holds anything that was finished."""
    kept = (entry for entry in staging.iterdir() if entry.name not in _OWN)
    return any(path.is_file() and path.suffix != ".partial" for entry in kept for path in (entry, *entry.rglob("*")))


def _is_resumable(staging: Path) -> bool:
    """Return whether a job's folder is kept for its next attempt."""
    try:
        writer = json.loads((staging / "writer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not (isinstance(writer, dict) and writer.get("resume") is False)


# No job's name has it as a part of a path.
_SEPARATOR = "="


def job_of(folder: str) -> str:
    """Return the job, as paths spell it, whose folder in ``.staging`` has this name."""
    return folder.partition(_SEPARATOR)[0]


def is_held(folder: Path) -> bool:
    """Return whether a process may be working in a job's folder: one that has it locked, or that its name says."""
    if _SEPARATOR not in folder.name:
        return disk.is_locked(folder / "lock")
    _, host, process, start, _ = (*folder.name.split(_SEPARATOR), "", "", "", "")[:5]
    if host != _host() or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return _start(int(process)) == start  # else the number is another process's by now


def claim(staging: Path, job: str) -> Path:
    """Return a folder in `staging` for this process to do a job in, with what an earlier attempt left if possible."""
    own = f"{job}{_SEPARATOR}{_host()}{_SEPARATOR}{os.getpid()}{_SEPARATOR}{_start(os.getpid())}"
    mine = staging / f"{own}{_SEPARATOR}{secrets.token_hex(4)}"
    others = [folder for folder in sorted(staging.iterdir()) if folder.name.startswith(f"{job}{_SEPARATOR}")]
    for left in (staging / job, *(folder for folder in others if not is_held(folder))):
        with contextlib.suppress(FileNotFoundError):
            return left.rename(mine)
    mine.mkdir()
    return mine


def _host() -> str:
    return socket.gethostname().replace(_SEPARATOR, "-").replace("/", "-")


def _start(process: int) -> str:
    """Return when a process started, in units of the machine's; nothing where that cannot be known."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
