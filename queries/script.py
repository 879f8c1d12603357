"""The views of a store as a script for any DuckDB client."""

from ..schema.store import Store
from ..schema.tables import TABLES
from . import catalog
from .database import Database, comments

__all__ = ["views_sql"]


def views_sql(store: Store) -> str:
    """Return SQL that makes the same tables, macros and views in any DuckDB client.

    The paths in it are absolute and those committed now: after another ingest, run it anew.

    Raises
    ------
    StoreError
        If there is no store, or a file of it is missing or corrupt.
    """
    parts = [
        f"-- Views over the neuronlake store {store.path.absolute()}\n"
        "-- Paste into, or .read from, any DuckDB client; run 'neuronlake views --sql' anew after an ingest.",
        catalog.macros().strip(),
    ]
    with Database(store) as database:
        names = dict.fromkeys(TABLES)
        for view in catalog.views():
            names.update(dict.fromkeys(database.reads(view.name)))
        parts += [f"create or replace view {name} as\n{database.query_of(name)};\n{comments(name)}" for name in names]
    return "\n\n".join(parts) + "\n"
