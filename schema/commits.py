"""Commits: the files ``commits/<job>.json`` that say what a store holds, and the one place that reads them.

Nothing in them is believed: a commit may have been copied, cut, edited or made to harm.
"""

import datetime
import importlib.metadata
import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..errors import StoreError, one_line
from .disk import fault
from .names import folder_name
from .tables import SCHEMA_VERSION, TABLES

__all__ = ["Commit", "Commits", "CommittedFile", "Place", "neuronlake_version", "read_commit", "read_commits"]


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """One Parquet file of a commit.

    Parameters
    ----------
    path
        Where it lies, relative to the store, with forward slashes.
    table
        The table its rows belong to.
    n_rows
        Rows in it.
    size_bytes
        Its size.
    sha256
        Its digest.
    """

    path: str
    table: str
    n_rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One committed job.

    Parameters
    ----------
    job
        Name of the job: a run_id, or the kind and the name of what was added.
    kind
        What the job made: corpus, run, …
    schema_version
        Version of the declarations in ``schema/tables/`` it was written with.
    neuronlake_version
        Version of the package that wrote it.
    committed_at
        When, in UTC, ISO 8601.
    files
        Its files, by folder and then by the number of the part.
    """

    job: str
    kind: str
    schema_version: int
    neuronlake_version: str
    committed_at: str
    files: tuple[CommittedFile, ...]


@dataclass(frozen=True, slots=True)
class Commits:
    """What lies in the folder ``commits``.

    Parameters
    ----------
    commits
        All commits, oldest first.
    ignored
        Names of the files that are none, each with what it is.
    """

    commits: tuple[Commit, ...]
    ignored: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a data file lies, read from its path.

    Parameters
    ----------
    folder
        Its folder, as the parts of the path.
    table
        The table it is of.
    job
        The job that wrote it, as its name stands in paths.
    part
        Number of the file within job and table.
    """

    folder: tuple[str, ...]
    table: str
    job: str
    part: int

    @classmethod
    def of(cls, path: str) -> "Place | None":
        """Return the place of a path relative to the store, None if no job puts a file there.

        Folders are of the characters that `folder_name` leaves: no pattern, no ``..``, nothing hidden.
        """
        found = _PLACE.fullmatch(path)
        if found is None:
            return None
        return cls(tuple(path.split("/")[:-1]), found["table"], found["job"], int(found["part"]))


_FOLDER = r"[\w~+ ,()@%-][\w.~+ ,()@%-]*"
_PLACE = re.compile(
    rf"data/(?P<table>\w+)/(?:{_FOLDER}/){{0,2}}(?P<job>{_FOLDER})-(?P<part>\d{{1,9}})\.parquet", re.ASCII
)
_REPR = reprlib.Repr()
_REPR.maxstring = 120
_TYPES = {"list": list, "text": str, "whole number": int}
_COMMIT = {
    "job": "text",
    "kind": "text",
    "schema_version": "whole number",
    "neuronlake_version": "text",
    "committed_at": "text",
    "files": "list",
}
_FILE = {"path": "text", "table": "text", "n_rows": "whole number", "size_bytes": "whole number", "sha256": "text"}


def neuronlake_version() -> str:
    """Return the installed version of neuronlake."""
    return importlib.metadata.version("neuronlake")


def read_commits(store: Path) -> Commits:
    """Read all commits of the store in a folder, which need not exist.

    A copy of a commit beside it, as programs that synchronise folders make, and hidden files are ignored.

    Raises
    ------
    StoreError
        If the folder is not a store, a commit cannot be read, or it was written by a newer neuronlake.
    """
    folder = store / "commits"
    try:
        if folder.is_symlink():
            raise StoreError(f"{folder} is a symbolic link, and a store holds its files itself")
        names = sorted(each.name for each in folder.iterdir())
    except FileNotFoundError:
        names = []
    except NotADirectoryError as error:
        raise StoreError(f"{folder if store.is_dir() else store} is not a folder") from error
    except OSError as error:
        raise StoreError(f"cannot read {folder}: {error.strerror}") from error
    commits: dict[str, Commit] = {}
    misnamed: dict[str, Commit] = {}
    ignored: dict[str, str] = {}
    for name in names:
        if name.startswith(".") or not name.endswith(".json"):
            ignored[name] = "no commit, and so ignored"
            continue
        commit = _read(store, name)
        (commits if _file_name(commit.job) == name else misnamed)[name] = commit
    for name, commit in misnamed.items():
        right = _file_name(commit.job)
        if right not in commits:
            raise StoreError(f"{folder / name} is the commit of {commit.job!r} under another name than {right}")
        ignored[name] = f"a copy of {right}, and so ignored"
    in_order = sorted(commits.values(), key=lambda commit: (commit.committed_at, commit.job))
    return Commits(tuple(in_order), ignored)


def read_commit(store: Path, job: str) -> Commit | None:
    """Return the commit of a job in the store in a folder, None if it has none.

    Raises
    ------
    StoreError
        If it cannot be read, is of another job, or was written by a newer neuronlake.
    """
    name = _file_name(job)
    if len(name) > 255 or fault(store, f"commits/{name}") == "missing":
        return None
    commit = _read(store, name)
    if commit.job != job:
        raise StoreError(f"{store / 'commits' / name} is the commit of {commit.job!r}, not of {job!r}")
    return commit


def _read(store: Path, name: str) -> Commit:
    """Read one file of the folder ``commits``."""
    file = store / "commits" / name
    try:
        problem = fault(store, f"commits/{name}")
        if problem is not None:
            raise ValueError(problem)
        fields = json.loads(file.read_text(encoding="utf-8"))
        version = fields.get("schema_version") if isinstance(fields, dict) else None
        # Before anything else of it is looked at: a newer version may have more to say.
        if type(version) is int and version > SCHEMA_VERSION:
            raise StoreError(
                f"{file} was written with schema version {_shown(version)}, this neuronlake ({neuronlake_version()}) "
                f"reads up to {SCHEMA_VERSION}; please upgrade neuronlake"
            )
        return _commit(_fields(fields, _COMMIT, "it"))
    except OSError as error:
        raise StoreError(f"cannot read the commit {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"cannot read the commit {file}: {one_line(error)}") from error


def _file_name(job: str) -> str:
    return f"{folder_name(job)}.json"


def _commit(fields: dict[str, Any]) -> Commit:
    job, version = fields["job"], fields["schema_version"]
    if version < 1:
        raise ValueError(f"schema_version is {_shown(version)}")
    moment = datetime.datetime.fromisoformat(fields["committed_at"])
    if moment.tzinfo is None:
        raise ValueError("committed_at has no time zone")
    places: dict[Place, CommittedFile] = {}
    for number, each in enumerate(fields["files"]):
        file = CommittedFile(**_fields(each, _FILE, f"file {number}"))
        place = Place.of(file.path)
        # Of two jobs, no file can be the same: the job's name is part of the file's.
        if place is None or place.table != file.table or place.job != folder_name(job):
            raise ValueError(f"{_shown(file.path)} is no place for rows of {_shown(file.table)} by {_shown(job)}")
        if file.table not in TABLES:
            raise ValueError(f"table {_shown(file.table)} is not declared in neuronlake {neuronlake_version()}")
        if not re.fullmatch("[0-9a-f]{64}", file.sha256):
            raise ValueError(f"file {number} has the sha256 {_shown(file.sha256)}")
        if place in places:
            raise ValueError(f"{_shown(file.path)} is named twice")
        places[place] = file
    by_part = sorted(places, key=lambda place: (place.folder, place.part))
    return Commit(**{**fields, "files": tuple(places[place] for place in by_part)})


def _fields(value: object, types: Mapping[str, str], what: str) -> dict[str, Any]:
    """Return a JSON object that has exactly these keys, each of its type."""
    if type(value) is not dict:
        raise ValueError(f"{what} is {_shown(value)}, not an object")
    wrong = sorted(types.keys() ^ value.keys())
    if wrong:
        raise ValueError(f"{what} {'lacks' if wrong[0] in types else 'has the unknown'} {_shown(wrong[0])}")
    for name, type_ in types.items():
        if type(value[name]) is not _TYPES[type_]:
            raise ValueError(f"{what} has {name} {_shown(value[name])}, not a {type_}")
        if type_ == "whole number" and not 0 <= value[name] < 2**63:
            raise ValueError(f"{what} has {name} {_shown(value[name])}")
        if type_ == "text":
            value[name].encode()  # raises for half a surrogate pair, which could not even be printed
    return cast("dict[str, Any]", value)


def _shown(value: object) -> str:
    """Return a value as a short line of plain characters."""
    return _REPR.repr(value).encode("ascii", "backslashreplace").decode()
