"""Digests and names: the same content has the same id anywhere, and names are parts of paths."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ..errors import StoreError
from .disk import store_errors

IDENTITY_VERSION = 2
"""Enters the digest of every id, under its old name ``schema_version``. It stays when tables change, so that what older
stores hold is not measured again. tests/test_ids.py pins ids of every kind."""


def identifier(definition: Mapping[str, object]) -> str:
    """Return the id of a measurement or of something made: 16 hex digits of the digest of all that defines it, as JSON.

    >>> identifier({"corpus": "semcor", "pooling": "max"})
    '62f82c1f3590ecd3'
    """
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hex digits; raise a `StoreError` if it cannot be read."""
    with store_errors(f"cannot read {path}"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


STAGING = ".staging"
"""Folder of a store that holds work in progress."""

# A file system takes 255 bytes. Before the name of a corpus stands the kind of its job; part and suffix follow.
_LONGEST = 230

# A name of the characters that `folder_name` leaves: no pattern, no ``..``, nothing hidden.
_FOLDER = r"[\w~+ ,()@%-][\w.~+ ,()@%-]*"
_PLACE = re.compile(rf"(data/(\w+)(?:/{_FOLDER}){{0,2}})/({_FOLDER})-(\d{{1,9}})\.parquet", re.ASCII)


class Place(NamedTuple):
    """The parts of a data file's path; files of one job sort by folder, then by number."""

    folder: str  # its path relative to the store
    table: str
    job: str  # the job's name as `folder_name` spells it
    part: int  # number of the file within its job and table

    @classmethod
    def of(cls, path: str) -> "Place | None":
        """Return the place of a path relative to the store, or None if no job writes files there."""
        if match := _PLACE.fullmatch(path):
            folder, table, job, part = match.groups()
            return cls(folder, table, job, int(part))
        return None


def corpus_job(corpus: str) -> str:
    """Return the name of the job that adds a corpus."""
    return f"corpus-{corpus}"


def folder_name(name: str) -> str:
    """Return a name as one safe path component, as the hub writes it: ``google/switch`` is ``google--switch``."""
    safe = quote(name.replace("/", "--"), safe="-_.+ ,()@", errors="surrogatepass").lstrip(".")
    return safe or "_"


def check_name(what: str, name: str) -> None:
    """Raise a `StoreError` if a store cannot hold a model, revision or corpus (`what`) of this name."""
    n_bytes = len(folder_name(name))
    if not name.strip(" ."):
        problem = "it is empty, or of dots alone"
    elif any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        problem = "it holds control characters, or bytes that are no UTF-8"
    elif name.lower().endswith(".parquet"):
        problem = "readers would take its folder for a file of data"
    elif n_bytes > _LONGEST:
        problem = f"as a path it takes {n_bytes} bytes of at most {_LONGEST}"
    else:
        return
    shown = name if len(name) <= 60 else name[:59] + "…"
    raise StoreError(f"{what} {shown!r} cannot be stored under this name: {problem}; give another")
