"""Every table of a store, declared once, in SQL: its grain, its columns and their meaning.

Read ``declaration`` (what a table is, and how SQL declares it), then ``runs``, ``rankings``, ``corpora``,
``partitions``, ``perturbations``, ``checkpoints``, ``contents`` and ``merges``. The store checks what it writes against
the declarations, ``neuronlake tables`` prints them, and docs/tables.md is generated from them. Names are a contract:
columns and tables may be added, never renamed.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ...errors import UnknownNameError
from .declaration import Column, Table, parse

__all__ = ["SCHEMA_VERSION", "TABLES", "Column", "Table", "table"]

SCHEMA_VERSION = 3

_FILES = ("runs", "rankings", "corpora", "partitions", "perturbations", "checkpoints", "contents", "merges")
_SQL = "\n".join((Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8") for name in _FILES)

TABLES: Mapping[str, Table] = MappingProxyType({declared.name: declared for declared in parse(_SQL)})
"""All tables by name, in the order to read them."""


def table(name: str) -> Table:
    """Return the declaration of the table called `name`; raise an `UnknownNameError` if there is none."""
    if name not in TABLES:
        raise UnknownNameError("table", name, TABLES)
    return TABLES[name]
