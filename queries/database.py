"""SQL over a store: an in-memory DuckDB whose views read the committed Parquet files."""

import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..errors import QueryError, StoreError, UnknownNameError, one_line
from ..schema.identity import file_sha256
from ..schema.store import CommittedFile, Store
from ..schema.table import Table
from ..schema.tables import TABLES
from . import catalog, materialize, quoting, readonly
from .result import Result

if TYPE_CHECKING:
    import duckdb

__all__ = ["Database", "comments", "source_names", "table_query"]

# What lists the catalog needs all of it, not only what it names.
_WORD = re.compile(r"\w+")
_LISTING = re.compile(r"\b(show|describe|desc|information_schema|sqlite_master|(?:duckdb|pg)_\w+)\b")

# How often a query is asked to end, in twentieths of a second.
_INTERRUPTS = 40


class Database:
    """A store as it stood when first read, open for SQL that reads.

    The view of a table, or of a file in ``views/``, is made when a statement first names it: DuckDB reads the
    footer of every file to bind a view, which a statement about one table need not pay for all of them.

    Parameters
    ----------
    store
        The store, or its folder.

    Examples
    --------
    >>> with Database("neuronlake-store") as database:  # doctest: +SKIP
    ...     database.sql("select * from specialization where step = ?", [1000]).pl()
    """

    def __init__(self, store: Store | str | os.PathLike[str]) -> None:
        import duckdb

        self.store = store if isinstance(store, Store) else Store(store)
        self._connection = duckdb.connect(config=dict(readonly.settings()))
        self._connection.execute("set TimeZone = 'UTC'")
        # A footer is read when a view is made, when a query is bound and when it runs: parse it once.
        self._connection.execute("set parquet_metadata_cache = true")
        self._connection.execute(catalog.macros())
        self._connection.execute("set lock_configuration = true")
        self._views = {view.name: view for view in catalog.views()}
        self._sources: dict[str, tuple[str, ...]] = {}
        self._made: set[str] = set()

    def sql(self, query: str, parameters: Sequence[object] | Mapping[str, object] | None = None) -> Result:
        """Run one statement that only reads, now, and return its rows.

        Parameters
        ----------
        query
            The SQL.
        parameters
            Values for ``?`` in order, or for ``$name`` by name.

        Raises
        ------
        QueryError
            If the statement is wrong, or would change something.
        StoreError
            If there is no store, or a file of it is missing or corrupt.
        """
        import duckdb

        readonly.check(self._connection, query)
        names = self._make_named(query)
        try:
            return self._run(query, parameters)
        except duckdb.CatalogException as error:
            message = _explain(error)
            try:
                # Once all is there, DuckDB suggests the nearest of our names for one that is wrong.
                self._make_named("show")
                return self._run(query, parameters)
            except duckdb.Error as second:
                message = _explain(second)
            except StoreError:
                pass
            raise QueryError(message) from error
        except duckdb.Error as error:
            self._find_damage(error, names)
            raise QueryError(_explain(error)) from error

    def describe_tables(self) -> Result:
        """Return a row a declared table: its grain, how many rows and files the store holds, what a row is."""
        return self._listing(
            ("name", "grain", "n_rows", "n_files", "description"),
            [
                (
                    each.name,
                    ", ".join(each.grain),
                    sum(file.n_rows for file in self.committed[each.name]),
                    len(self.committed[each.name]),
                    each.description,
                )
                for each in TABLES.values()
            ],
        )

    def describe_views(self) -> Result:
        """Return a row a view: its grain, whether it is materialised, what it answers."""
        return self._listing(
            ("name", "grain", "is_materialized", "answers"),
            [
                (each.name, ", ".join(each.grain), materialize.current_file(self, each.name) is not None, each.answers)
                for each in self._views.values()
            ],
        )

    def describe_columns(self, name: str) -> Result:
        """Return a row a column of a table or view: its type and what it means.

        Raises
        ------
        UnknownNameError
            If there is no such table or view.
        """
        if name not in TABLES and name not in self._views:
            raise UnknownNameError("table or view", name, (*TABLES, *self._views))
        self.make(name)
        query = "select column_name as name, data_type as type, comment as description from duckdb_columns()"
        return self._run(f"{query} where table_name = ? order by column_index", [name])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connection(self) -> "duckdb.DuckDBPyConnection":
        """The DuckDB connection, unguarded: for code of ours that needs more than `sql`."""
        return self._connection

    @cached_property
    def committed(self) -> Mapping[str, tuple[CommittedFile, ...]]:
        """The committed files of each declared table, as they stood at the first look."""
        self.store.require()
        found: dict[str, list[CommittedFile]] = {name: [] for name in TABLES}
        for commit in self.store.commits():
            for file in commit.files:
                found.setdefault(file.table, []).append(file)
        return {name: tuple(files) for name, files in found.items()}

    def paths(self, table: str) -> tuple[Path, ...]:
        """Return the committed files of a table, as absolute paths."""
        root = self.store.path.absolute()
        return tuple(root / file.path for file in self.committed[table])

    def reads(self, name: str) -> tuple[str, ...]:
        """Return what a view reads, what that reads, and so on, each before what needs it; then the name itself."""
        found: dict[str, None] = {}
        if name in self._views and name not in self._sources:
            self._sources[name] = source_names(self._connection, self._views[name].sql)
        for source in self._sources.get(name, ()):
            found.update(dict.fromkeys(self.reads(source)))
        return (*found, name)

    def query_of(self, name: str) -> str:
        """Return the SQL behind a table's view, or of a view, as it is without a cache.

        Raises
        ------
        StoreError
            If a committed file of the table is missing or corrupt.
        """
        if name in self._views:
            return self._views[name].sql
        return table_query(TABLES[name], self.paths(name), self._columns(name))

    def make(self, name: str) -> None:
        """Make the view of this name, and all it reads, unless they are there.

        Raises
        ------
        QueryError
            If the SQL of a view does not fit the tables.
        StoreError
            If a committed file is missing or corrupt.
        """
        if name in self._made:
            return
        cached = materialize.current_file(self, name) if name in self._views else None
        if cached:
            self._create(name, f"select * from read_parquet({quoting.literal(cached)})")
        elif name in self._views:
            for source in self.reads(name)[:-1]:
                self.make(source)
            self._create(name, self._views[name].sql)
        else:
            self._create_table(name)
        self._connection.execute(comments(name))
        self._made.add(name)

    def _create_table(self, name: str) -> None:
        import duckdb

        # Nearly always some file has each column; to look first would read every footer once more.
        table = TABLES[name]
        query = table_query(table, self.paths(name), frozenset(table.column_names))
        try:
            self._connection.execute(f"create view {name} as {query}")
        except duckdb.BinderException:
            self._create(name, self.query_of(name))
        except duckdb.Error as error:
            self._find_damage(error, {name})
            raise QueryError(f"table {name}: {_explain(error)}") from error

    def _create(self, name: str, query: str) -> None:
        import duckdb

        try:
            self._connection.execute(f"create view {name} as {query}")
        except duckdb.Error as error:
            self._find_damage(error, {name})
            raise QueryError(f"view {name}: {_explain(error)}") from error

    def _make_named(self, query: str) -> set[str]:
        words = query.lower()
        names = {*TABLES, *self._views}
        if not _LISTING.search(words):
            names &= set(_WORD.findall(words))
        for name in sorted(names):
            self.make(name)
        return names

    def _run(self, query: str, parameters: Sequence[object] | Mapping[str, object] | None) -> Result:
        """Run a query in a thread of its own: inside DuckDB, Python would not notice Ctrl-C until it ends."""
        done = threading.Event()
        results: list[Result] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(Result(self._connection.sql(query, params=parameters).materialize()))
            except BaseException as error:  # raised again below
                errors.append(error)
            finally:
                done.set()

        threading.Thread(target=run, name="neuronlake-query", daemon=True).start()
        try:
            # In short waits: with polars loaded, a signal does not wake the main thread out of a long one.
            while not done.wait(0.05):
                pass
        except KeyboardInterrupt:
            # DuckDB forgets an interrupt that comes before the query has begun, so ask until it has ended; it does not
            # hear of one while it waits for a file, as for a pipe that nobody writes to.
            for _ in range(_INTERRUPTS):
                if done.wait(0.05):
                    break
                self._connection.interrupt()
            raise
        if errors:
            raise errors[0]
        return results[0]

    def _listing(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Result:
        """Return rows of ours as a result."""
        selected = ", ".join(f"unnest(?) as {column}" for column in columns)
        return self._run(f"select {selected}", [list(values) for values in zip(*rows, strict=True)])

    def _columns(self, table: str) -> frozenset[str]:
        """Return the columns that at least one file of the table has."""
        import duckdb

        paths = self.paths(table)
        if not paths:
            return frozenset()
        try:
            found = self._connection.execute(f"select * from {_read(paths)} limit 0").description
        except duckdb.Error as error:
            self._find_damage(error, {table})
            raise QueryError(f"table {table}: {_explain(error)}") from error
        return frozenset(column[0] for column in found)

    def _find_damage(self, error: "duckdb.Error", names: set[str]) -> None:
        """Raise if this error comes from a committed file that is missing or corrupt, of what `names` read."""
        import duckdb

        message = str(error)
        tables = {each for name in names for each in self.reads(name)} & set(TABLES)
        # DuckDB has no class of its own for broken Parquet structures: they come as the base class.
        is_structure = type(error) is duckdb.Error and "requires the extension" not in message
        if not (is_structure or isinstance(error, duckdb.IOException | duckdb.InvalidInputException)):
            return
        for table in sorted(tables):
            for file, path in zip(self.committed[table], self.paths(table), strict=True):
                if not path.exists():
                    raise StoreError(f"{path} is committed but missing") from error
                is_altered = path.stat().st_size != file.size_bytes or str(path) in message
                if is_altered or (is_structure and file_sha256(path) != file.sha256):
                    raise StoreError(f"{path} is corrupt: it differs from what was committed") from error


def source_names(connection: "duckdb.DuckDBPyConnection", query: str) -> tuple[str, ...]:
    """Return the names of the tables and views a query reads, sorted, those of its own CTEs left out.

    From DuckDB's own parse tree: `get_table_names` would bind, and fail while what is read is not there yet.
    """
    rows = connection.execute("select json_serialize_sql(?)", [query]).fetchall()
    names: set[str] = set()
    own: set[str] = set()
    nodes: list[object] = [json.loads(rows[0][0])]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE":
                names.add(node["table_name"])
            own.update(each["key"] for each in node.get("cte_map", {}).get("map", ()))
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
    return tuple(sorted(names - own))


def table_query(table: Table, paths: Sequence[Path], columns: frozenset[str]) -> str:
    """Return SQL that reads a table: exactly the declared columns, NULL where no file has them yet.

    Parameters
    ----------
    table
        The declaration.
    paths
        Its files.
    columns
        The columns that at least one of them has.
    """
    if not paths:
        columns = frozenset()
    selected = ", ".join(
        quoting.name(column.name)
        if column.name in columns
        else f"cast(null as {column.duckdb_type}) as {quoting.name(column.name)}"
        for column in table.columns
    )
    return f"select {selected} from {_read(paths)}" if paths else f"select {selected} where false"


def comments(name: str) -> str:
    """Return SQL that comments the view of a table, or a view, and its columns."""
    if name in TABLES:
        description, columns = TABLES[name].description, TABLES[name].columns
        described = [(column.name, column.description) for column in columns]
    else:
        view = catalog.view(name)
        description, described = view.answers, [(column.name, column.description) for column in view.columns]
    lines = [f"comment on view {name} is {quoting.literal(description)};"]
    lines += [
        f"comment on column {name}.{quoting.name(column)} is {quoting.literal(text)};" for column, text in described
    ]
    return "\n".join(lines)


def _read(paths: Sequence[Path]) -> str:
    listed = ", ".join(quoting.literal(path) for path in paths)
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"


def _explain(error: BaseException) -> str:
    """Return what DuckDB says in one line, its suggestions with it, the picture of the query without."""
    message = str(error).partition("\nLINE ")[0]
    if "requires the extension" in message:
        return f"{one_line(error)}: only local files can be read"
    return one_line(QueryError(" ".join(message.split())))
