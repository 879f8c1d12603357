"""The views of a store as a script for any DuckDB client."""

from ..schema.store import Store
from ..schema.tables import TABLES
from . import catalog, quoting
from .database import Database
from .definitions import comments

__all__ = ["views_sql"]

_HEAD = """\
-- Views over a neuronlake store, for any DuckDB client: paste it, or .read it.
-- The next line says where the store lies, and views ask it each time they are read: where that is elsewhere, or a path
-- from the working directory, change it; in another session of a database that keeps the views, run it again.
-- The files are those committed now: after an ingest, run 'neuronlake views --sql' anew.
set variable store = {store};"""


def views_sql(store: Store) -> str:
    """Return SQL that makes the same tables, macros and views in any DuckDB client.

    All paths are relative to the variable ``store``, which the first statement sets, so that it serves whoever has a
    copy of the store; the files are those committed now: after another ingest, run it anew.

    Raises
    ------
    StoreError
        If there is no store, or a file of it is missing or corrupt.
    """
    parts = [_HEAD.format(store=quoting.path(store.path.absolute())), catalog.macros().strip()]
    with Database(store) as database:
        names = dict.fromkeys(TABLES)
        for view in catalog.views():
            names.update(dict.fromkeys(database.reads(view.name)))
        for name in names:
            query = database.query_of(name, root="getvariable('store')")
            parts.append(f"create or replace view {name} as\n{query};\n{comments(name)}")
    return "\n\n".join(parts) + "\n"
