"""SQL over a store: an in-memory DuckDB whose views read the committed Parquet files."""

import errno
import os
import re
import resource
import threading
import weakref
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from ..errors import QueryError, StoreError, UnknownNameError, one_line
from ..schema.commits import CommittedFile
from ..schema.identity import file_sha256
from ..schema.store import Store
from ..schema.tables import TABLES
from . import cache, catalog, definitions, parse_tree, quoting, readonly
from .result import Result, collect

if TYPE_CHECKING:
    import duckdb

__all__ = ["Database"]

# What DuckDB says where a table is not there; its own suggestion is of names that the views of this store never have.
_NO_TABLE = re.compile(r"Table with name (?P<name>.*) does not exist!")

# How often a query is asked to end, in twentieths of a second.
_INTERRUPTS = 40


class Database:
    """A store as it stood when first read, or when `refresh` was last called, open for SQL that reads.

    The view of a table, or of a file in ``views/``, is made when a statement first names it: DuckDB reads the
    footer of every file to bind a view, which a statement about one table need not pay for all of them.

    Parameters
    ----------
    store
        The store, or its folder.

    Raises
    ------
    StoreError
        If there is no store.

    Examples
    --------
    >>> with Database("neuronlake-store") as database:  # doctest: +SKIP
    ...     database.sql("select * from specialization where step = ?", [1000]).pl()
    """

    def __init__(self, store: Store | str | os.PathLike[str]) -> None:
        import duckdb

        self.store = store if isinstance(store, Store) else Store(store)
        self.store.require()
        self._connection = duckdb.connect(config=dict(readonly.settings()))
        self._connection.execute("set TimeZone = 'UTC'")
        # A footer is read when a view is made, when a query is bound and when it runs: parse it once.
        self._connection.execute("set parquet_metadata_cache = true")
        self._connection.execute(catalog.macros())
        self._connection.execute("set lock_configuration = true")
        self._views = {view.name: view for view in catalog.views()}
        self._known = {*TABLES, *self._views}
        self._sources: dict[str, tuple[str, ...]] = {}
        self._made: set[str] = set()
        # The kept file of each view that was looked for, held open against removal.
        self._kept: dict[str, IO[bytes] | None] = {}
        weakref.finalize(self, _let_go, self._kept)

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
            If a file of the store is missing, corrupt or cannot be read.
        """
        import duckdb

        statement = readonly.check(self._connection, query)
        names = parse_tree.named(self._connection, statement, self._known)
        for name in sorted(names):
            self.make(name)
        try:
            return self._run(query, parameters)
        except duckdb.CatalogException as error:
            self._make_missing(error)
        except (duckdb.Error, UnicodeDecodeError) as error:
            if not self._leave_lost_files():
                self._find_damage(error, names)
                raise QueryError(_explain(error)) from error
        return self.sql(query, parameters)

    def refresh(self) -> None:
        """Read the store as it stands now: what was committed and what views were kept since it was last read.

        Raises
        ------
        StoreError
            If the store is gone, or a file of it is missing, corrupt or cannot be read.
        """
        self.__dict__.pop("committed", None)
        _let_go(self._kept)
        self._kept.clear()
        self._remake(self._made)

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
        """Return a row a view: its grain, whether it is materialised, why what is kept is not read, what it answers."""
        return self._listing(
            ("name", "grain", "is_materialized", "not_read_because", "answers"),
            [
                (
                    each.name,
                    ", ".join(each.grain),
                    is_kept,
                    None if is_kept else cache.reason(self, each.name),
                    each.answers,
                )
                for each in self._views.values()
                for is_kept in (self.kept_file(each.name) is not None,)
            ],
        )

    def describe_columns(self, name: str) -> Result:
        """Return a row a column of a table or view: its type and what it means.

        Raises
        ------
        UnknownNameError
            If there is no such table or view.
        """
        if name not in self._known:
            raise UnknownNameError("table or view", name, self._known)
        self.make(name)
        query = "select column_name as name, data_type as type, comment as description from duckdb_columns()"
        return self._run(f"{query} where table_name = ? order by column_index", [name])

    def close(self) -> None:
        """Close the connection, and let go of kept files."""
        self._connection.close()
        _let_go(self._kept)

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
        """The committed files of each declared table, as they stood when first looked at or at `refresh`."""
        self.store.require()
        found: dict[str, list[CommittedFile]] = {name: [] for name in TABLES}
        for commit in self.store.commits():
            for file in commit.files:
                found.setdefault(file.table, []).append(file)
        return {name: tuple(files) for name, files in found.items()}

    def paths(self, table: str) -> tuple[Path, ...]:
        """Return the committed files of a table, as absolute paths."""
        return tuple(self.store.locate(file) for file in self.committed[table])

    def reads(self, name: str) -> tuple[str, ...]:
        """Return what a view reads, what that reads, and so on, each before what needs it; then the name itself."""
        found: dict[str, None] = {}
        if name in self._views and name not in self._sources:
            self._sources[name] = parse_tree.source_names(self._connection, self._views[name].sql)
        for source in self._sources.get(name, ()):
            found.update(dict.fromkeys(self.reads(source)))
        return (*found, name)

    def kept_file(self, name: str) -> Path | None:
        """Return the file that holds the rows of a view, or None; nobody removes it while this database is open."""
        if name not in self._kept:
            self._kept[name] = cache.hold(self, name)
        held = self._kept[name]
        return Path(held.name) if held else None

    def query_of(self, name: str, *, root: str | None = None) -> str:
        """Return the SQL behind a table's view, or of a view, as it is without a cache.

        Parameters
        ----------
        name
            The table or view.
        root
            SQL of the store's folder; by default where it lies.

        Raises
        ------
        StoreError
            If a committed file of the table is missing or corrupt.
        """
        if name in self._views:
            return self._views[name].sql
        return definitions.table_query(TABLES[name], self._files(name, root), self._columns(name))

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
        kept = self.kept_file(name) if name in self._views else None
        if kept:
            self._create(name, f"select * from read_parquet({quoting.path(kept)})")
        elif name in self._views:
            for source in self.reads(name)[:-1]:
                self.make(source)
            self._create(name, self._views[name].sql)
        else:
            self._create_table(name)
        self._connection.execute(definitions.comments(name))
        self._made.add(name)

    def _create_table(self, name: str) -> None:
        import duckdb

        # Nearly always some file has each column; to look first would read every footer once more.
        table = TABLES[name]
        columns = frozenset(table.column_names if self.committed[name] else ())
        query = definitions.table_query(table, self._files(name), columns)
        try:
            self._connection.execute(f"create or replace view {name} as {query}")
        except duckdb.BinderException:
            self._create(name, self.query_of(name))
        except (duckdb.Error, UnicodeDecodeError) as error:
            self._find_damage(error, {name})
            raise QueryError(f"table {name}: {_explain(error)}") from error

    def _create(self, name: str, query: str) -> None:
        import duckdb

        try:
            self._connection.execute(f"create or replace view {name} as {query}")
        except (duckdb.Error, UnicodeDecodeError) as error:
            self._find_damage(error, {name})
            raise QueryError(f"view {name}: {_explain(error)}") from error

    def _make_missing(self, error: "duckdb.CatalogException") -> None:
        """Make what the store has though no parse tree names it, as in query_table('ru' || 'ns'); else raise."""
        missing = _NO_TABLE.search(str(error))
        if missing is None:
            raise QueryError(_explain(error)) from error
        if missing["name"].lower() not in self._known - self._made:
            # Not what DuckDB suggests, which knows only the views that were made.
            raise QueryError(str(UnknownNameError("table or view", missing["name"], self._known))) from error
        self.make(missing["name"].lower())

    def _remake(self, names: Collection[str]) -> None:
        names = sorted(names)
        self._made.difference_update(names)
        for name in names:
            self.make(name)

    def _leave_lost_files(self) -> bool:
        """Compute again the views whose kept file is gone all the same, and return whether there were any."""
        lost = {name: held for name, held in self._kept.items() if held and not Path(held.name).exists()}
        _let_go(lost)
        self._kept.update(dict.fromkeys(lost))
        self._remake(lost)
        return bool(lost)

    def _run(self, query: str, parameters: Sequence[object] | Mapping[str, object] | None) -> Result:
        """Run a query in a thread of its own: inside DuckDB, Python would not notice Ctrl-C until it ends."""
        done = threading.Event()
        results: list[Result] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(collect(self._connection.sql(query, params=parameters)))
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

    def _files(self, table: str, root: str | None = None) -> str:
        """Return SQL of the list of a table's files, below a folder that SQL gives, or where they lie."""
        if root is None:
            return f"[{', '.join(map(quoting.path, self.paths(table)))}]"
        listed = ", ".join(quoting.path(file.path) for file in self.committed[table])
        return f"list_transform([{listed}], lambda file: {root} || '/' || file)"

    def _columns(self, table: str) -> frozenset[str]:
        """Return the columns that at least one file of the table has."""
        import duckdb

        if not self.committed[table]:
            return frozenset()
        try:
            found = self._connection.execute(
                f"select * from {definitions.scan(self._files(table))} limit 0"
            ).description
        except (duckdb.Error, UnicodeDecodeError) as error:
            self._find_damage(error, {table})
            raise QueryError(f"table {table}: {_explain(error)}") from error
        return frozenset(column[0] for column in found)

    def _find_damage(self, error: "duckdb.Error | UnicodeDecodeError", names: Collection[str]) -> None:
        """Raise if this error comes from a committed file of what `names` read: missing, unreadable or corrupt."""
        import duckdb

        message = str(error)
        # DuckDB has no class of its own for broken Parquet structures: they come as the base class, or as a message of
        # bytes that are no text.
        is_structure = type(error) in (duckdb.Error, UnicodeDecodeError) and "requires the extension" not in message
        if not (is_structure or isinstance(error, duckdb.IOException | duckdb.InvalidInputException)):
            return
        if os.strerror(errno.EMFILE) in message:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            raise StoreError(f"too many open files: this process may open {limit} at once (ulimit -n)") from error
        tables = {each for name in names for each in self.reads(name)} & set(TABLES)
        for table in sorted(tables):
            for file, path in zip(self.committed[table], self.paths(table), strict=True):
                try:
                    is_altered = path.stat().st_size != file.size_bytes
                except FileNotFoundError:
                    raise StoreError(f"{path} is committed but missing") from error
                except OSError as reason:
                    raise StoreError(f"cannot read {path}: {reason.strerror}") from error
                if not is_altered and (is_structure or str(path) in message):
                    is_altered = file_sha256(path) != file.sha256
                if is_altered:
                    raise StoreError(f"{path} is corrupt: it differs from what was committed") from error


def _let_go(kept: Mapping[str, IO[bytes] | None]) -> None:
    for held in filter(None, kept.values()):
        held.close()


def _explain(error: BaseException) -> str:
    """Return what DuckDB says in one line, its suggestions with it, the picture of the query without."""
    message = str(error).partition("\nLINE ")[0]
    if "requires the extension" in message:
        return f"{one_line(error)}: only local files can be read"
    return one_line(QueryError(" ".join(message.split())))
