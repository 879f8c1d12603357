"""Commits: the files ``commits/<job>.json`` that say what a store holds, and the one place that reads them.

All of it is checked: a commit may have been copied, cut, edited or made to harm.
"""

import datetime
import functools
import importlib.metadata
import json
import os
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from ..errors import StoreError
from .disk import fault, store_errors
from .names import Place, folder_name
from .tables import SCHEMA_VERSION, TABLES

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class CommittedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Parquet file of a commit."""

    path: str  # its path relative to the store, with forward slashes
    table: str  # the table its rows belong to
    n_rows: _Count
    size_bytes: _Count
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Version(msgspec.Struct, frozen=True):
    schema_version: int  # version of the declared tables it was written with


class Commit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One committed job."""

    job: str  # name of the job: a run_id, or the kind and the name of what was added
    kind: str  # what the job made: corpus, run, …
    schema_version: Annotated[int, msgspec.Meta(ge=1)]  # version of the declared tables it was written with
    neuronlake_version: str
    committed_at: str  # time of the commit in UTC, ISO 8601
    files: tuple[CommittedFile, ...]  # its files, sorted by folder and then by the number of the part

    @property
    def run_id(self) -> str | None:
        """The run that its rows are of, if it measures a run or ranks the scores of one; None of other jobs."""
        return self.job.removeprefix("best-") if self.kind in ("run", "best") else None

    @property
    def size_bytes(self) -> int:
        """Size of its files."""
        return sum(file.size_bytes for file in self.files)


COPY = "a copy of {}, and so ignored"
_REPR = reprlib.Repr()
_REPR.maxstring = 120
_DECODER, _VERSION_DECODER = msgspec.json.Decoder(Commit), msgspec.json.Decoder(_Version)


@functools.cache
def neuronlake_version() -> str:
    """Return the version of neuronlake that is installed."""
    return importlib.metadata.version("neuronlake")


def commit_text(commits: "Commit | Sequence[Commit]") -> str:
    """Return a commit as its file spells it, or several as an index of a store does."""
    return json.dumps(msgspec.to_builtins(commits), indent=1) + "\n"


def file_name(job: str) -> str:
    """Return the name of a job's file in the folder ``commits``."""
    return f"{folder_name(job)}.json"


def read_commits(store: Path) -> tuple[tuple[Commit, ...], Mapping[str, str]]:
    """Return the commits of a store's folder, oldest first, and the other files in ``commits``: name to why ignored.

    A folder that does not exist has none. Hidden files are ignored, and so is a copy of a commit beside it, as programs
    that synchronise folders make. A commit that cannot be read, or of a newer neuronlake, raises `StoreError`.
    """
    folder = store / "commits"
    with store_errors(f"cannot read {folder}"):
        if folder.is_symlink():
            raise StoreError(f"{folder} is a symbolic link, and a store holds its files itself")
        try:
            with os.scandir(folder) as entries:
                regular = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
        except FileNotFoundError:
            regular = {}
        except NotADirectoryError as error:
            raise StoreError(f"{folder if store.is_dir() else store} is not a folder") from error
    names = sorted(regular)
    named = [name for name in names if name.endswith(".json") and not name.startswith(".")]
    read = {name: _read(folder / name, None if regular[name] else fault(store, f"commits/{name}")) for name in named}
    ignored = {name: "no commit, and so ignored" for name in names if name not in read}
    rights = {name: file_name(commit.job) for name, commit in read.items()}
    commits = {name: commit for name, commit in read.items() if rights[name] == name}
    for name, commit in read.items():
        right = rights[name]
        if right not in commits:
            raise StoreError(f"{folder / name} is the commit of {commit.job!r} under another name than {right}")
        if name != right:
            ignored[name] = COPY.format(right)
    return tuple(sorted(commits.values(), key=lambda commit: (commit.committed_at, commit.job))), ignored


def read_commit(store: Path, job: str) -> Commit | None:
    """Return the commit of a job in the store's folder, or None; one that cannot be read raises `StoreError`."""
    name = file_name(job)
    if len(name) > 255 or (problem := fault(store, f"commits/{name}")) == "missing":
        return None
    path = store / "commits" / name
    commit = _read(path, problem)
    if commit.job != job:
        raise StoreError(f"{path} is the commit of {commit.job!r}, not of {job!r}")
    return commit


def parse_commit(text: bytes | msgspec.Raw) -> Commit:
    """Return the commit that is written in JSON; what is none, or of a newer neuronlake, raises `ValueError`."""
    # Checked before all else: a newer version may have fields that this one does not know.
    if (version := _VERSION_DECODER.decode(text).schema_version) > SCHEMA_VERSION:
        ours = f"this neuronlake ({neuronlake_version()}) reads up to {SCHEMA_VERSION}"
        raise ValueError(f"it was written with schema version {_shown(version)}, {ours}; please upgrade neuronlake")
    commit = _DECODER.decode(text)
    if datetime.datetime.fromisoformat(commit.committed_at).tzinfo is None:
        raise ValueError("committed_at has no time zone")
    places, folder = dict[Place, CommittedFile](), folder_name(commit.job)
    for file in commit.files:
        place = Place.of(file.path)
        # No file can be of two jobs: the job's name is part of the file's.
        if place is None or place.table != file.table or place.job != folder:
            raise ValueError(
                f"{_shown(file.path)} is no place for rows of {_shown(file.table)} by {_shown(commit.job)}"
            )
        if file.table not in TABLES:
            raise ValueError(f"table {_shown(file.table)} is not declared in neuronlake {neuronlake_version()}")
        if place in places:
            raise ValueError(f"{_shown(file.path)} is named twice")
        places[place] = file
    return msgspec.structs.replace(commit, files=tuple(places[place] for place in sorted(places)))


def _read(path: Path, problem: str | None) -> Commit:
    """Return the commit in a file, unless there is a `problem` for which it must not be opened."""
    with store_errors(f"cannot read the commit {path}", ValueError, RecursionError):
        if problem:
            raise ValueError(problem)
        with path.open("rb", buffering=0) as file:
            return parse_commit(file.read())


def _shown(value: object) -> str:
    """Return a value as a short line of plain characters."""
    return _REPR.repr(value).encode("ascii", "backslashreplace").decode()
