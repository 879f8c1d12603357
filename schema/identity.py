"""Digests: the same content has the same id anywhere."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

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
