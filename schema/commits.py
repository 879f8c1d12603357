"""Commits: the files ``commits/<job>.json`` that say what a store holds, and the one place that reads them.

All of it is checked: a commit may have been copied, cut, edited or made to harm.
"""

import datetime
import functools
import importlib.metadata
import json
import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast, get_type_hints

from ..errors import StoreError
from .disk import fault, store_errors
from .names import Place, folder_name
from .tables import SCHEMA_VERSION, TABLES


class CommittedFile(NamedTuple):
    """One Parquet file of a commit."""

    path: str  # its path relative to the store, with forward slashes
    table: str  # the table its rows belong to
    n_rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One committed job."""

    job: str  # name of the job: a run_id, or the kind and the name of what was added
    kind: str  # what the job made: corpus, run, …
    schema_version: int  # version of the declared tables it was written with
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


_SHA256 = re.compile("[0-9a-f]{64}")
COPY = "a copy of {}, and so ignored"
_REPR = reprlib.Repr()
_REPR.maxstring = 120
# The JSON types of the fields of both classes, and their names in messages; all other fields than these are lists.
_JSON_TYPES: Mapping[object, tuple[type, str]] = {str: (str, "text"), int: (int, "whole number")}
_FIELDS: Mapping[type, Mapping[str, tuple[type, str]]] = {
    of: {name: _JSON_TYPES.get(kind, (list, "list")) for name, kind in get_type_hints(of).items()}
    for of in (Commit, CommittedFile)
}


@functools.cache
def neuronlake_version() -> str:
    """Return the version of neuronlake that is installed."""
    return importlib.metadata.version("neuronlake")


def commit_text(commits: "Commit | Sequence[Commit]") -> str:
    """Return a commit as its file spells it, or several as an index of a store does."""
    fields = _described(commits) if isinstance(commits, Commit) else [_described(commit) for commit in commits]
    return json.dumps(fields, indent=1) + "\n"


def _described(commit: Commit) -> dict[str, object]:
    fields = {name: getattr(commit, name) for name in _FIELDS[Commit]}
    return fields | {"files": [file._asdict() for file in commit.files]}


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
    read = {name: _read(store, name, is_checked=regular[name]) for name in named}
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
    if len(name) > 255 or fault(store, f"commits/{name}") == "missing":
        return None
    commit = _read(store, name)
    if commit.job != job:
        raise StoreError(f"{store / 'commits' / name} is the commit of {commit.job!r}, not of {job!r}")
    return commit


def parse_commit(fields: object) -> Commit:
    """Return the commit that a JSON object describes; what is none, or of a newer neuronlake, raises `ValueError`."""
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    # Checked before all else: a newer version may have fields that this one does not know.
    if type(version) is int and version > SCHEMA_VERSION:
        ours = f"this neuronlake ({neuronlake_version()}) reads up to {SCHEMA_VERSION}"
        raise ValueError(f"it was written with schema version {_shown(version)}, {ours}; please upgrade neuronlake")
    checked = _fields(fields, Commit, "it")
    job, folder = checked["job"], folder_name(checked["job"])
    if checked["schema_version"] < 1:
        raise ValueError(f"schema_version is {_shown(checked['schema_version'])}")
    if datetime.datetime.fromisoformat(checked["committed_at"]).tzinfo is None:
        raise ValueError("committed_at has no time zone")
    places: dict[Place, CommittedFile] = {}
    for number, described in enumerate(checked["files"]):
        file = CommittedFile(**_fields(described, CommittedFile, f"file {number}"))
        place = Place.of(file.path)
        # No file can be of two jobs: the job's name is part of the file's.
        if place is None or place.table != file.table or place.job != folder:
            raise ValueError(f"{_shown(file.path)} is no place for rows of {_shown(file.table)} by {_shown(job)}")
        if file.table not in TABLES:
            raise ValueError(f"table {_shown(file.table)} is not declared in neuronlake {neuronlake_version()}")
        if not _SHA256.fullmatch(file.sha256):
            raise ValueError(f"file {number} has the sha256 {_shown(file.sha256)}")
        if place in places:
            raise ValueError(f"{_shown(file.path)} is named twice")
        places[place] = file
    return Commit(**{**checked, "files": tuple(places[place] for place in sorted(places))})


def _read(store: Path, name: str, *, is_checked: bool = False) -> Commit:
    """Return the commit in a file, of which it `is_checked` that it is a regular file of the store, or is now."""
    path = store / "commits" / name
    with store_errors(f"cannot read the commit {path}", ValueError, RecursionError):
        if problem := None if is_checked else fault(store, f"commits/{name}"):
            raise ValueError(problem)
        return parse_commit(json.loads(path.read_bytes().decode()))


def _fields(value: object, of: type, what: str) -> dict[str, Any]:
    """Return `value` if it is a JSON object with exactly the fields of a dataclass, of their types; else raise."""
    if type(value) is not dict:
        raise ValueError(f"{what} is {_shown(value)}, not an object")
    fields, types = cast("dict[str, Any]", value), _FIELDS[of]
    if fields.keys() != types.keys():
        wrong = min(types.keys() ^ fields.keys())
        raise ValueError(f"{what} {'lacks' if wrong in types else 'has the unknown'} {_shown(wrong)}")
    for name, (json_type, type_name) in types.items():
        if type(fields[name]) is not json_type:
            raise ValueError(f"{what} has {name} {_shown(fields[name])}, not a {type_name}")
        if json_type is int and not 0 <= fields[name] < 2**63:
            raise ValueError(f"{what} has {name} {_shown(fields[name])}")
        if json_type is str and not fields[name].isascii():
            fields[name].encode()  # raises for half a surrogate pair, which could not even be printed
    return fields


def _shown(value: object) -> str:
    """Return a value as a short line of plain characters."""
    return _REPR.repr(value).encode("ascii", "backslashreplace").decode()
