"""Every table of a store, declared once: its grain, its columns and their meaning.

Read ``declaration`` (what a table is, and the columns that tables share), then ``runs``, ``rankings``, ``corpora``,
``partitions``, ``perturbations``, ``checkpoints``, ``contents`` and ``merges``. The store checks what it writes against
the declarations, ``neuronlake tables`` prints them, and docs/tables.md is generated from them. Names are a contract:
columns and tables may be added, never renamed.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ...errors import UnknownNameError
from . import checkpoints, contents, corpora, merges, partitions, perturbations, rankings, runs
from .declaration import Column, Table

__all__ = ["SCHEMA_VERSION", "TABLES", "Column", "Table", "table"]

SCHEMA_VERSION = 3

_MODULES = (runs, rankings, corpora, partitions, perturbations, checkpoints, contents, merges)

TABLES: Mapping[str, Table] = MappingProxyType(
    {declared.name: declared for module in _MODULES for declared in module.TABLES}
)
"""All tables by name, in the order to read them."""


def table(name: str) -> Table:
    """Return the declaration of the table called `name`; raise an `UnknownNameError` if there is none."""
    if name not in TABLES:
        raise UnknownNameError("table", name, TABLES)
    return TABLES[name]
