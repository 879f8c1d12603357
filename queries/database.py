"""SQL over a store: an in-memory DuckDB whose views read the committed Parquet files."""

import contextlib
import re
import time
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import IO

import duckdb

from ..errors import QueryError, StoreError, UnknownNameError, check_known
from ..progress import LOGGER
from ..schema import tables
from ..schema.commits import Commit, CommittedFile
from ..schema.names import identifier
from ..schema.stores.union import Place, open_store
from . import cache, catalog, parse_tree, quoting, readonly
from .catalog import TABLES
from .result import ENGINE_ERRORS, Result, check_files, explain, run
from .statements import statement


class Database(contextlib.AbstractContextManager["Database"]):
    """A store as it stood when first read, or when `refresh` was last called, open for SQL that reads.

    The view of a table, or of a file in ``views/``, is made when a statement first names it, and bound when asked: a
    statement about one table need not pay for the others. Of several threads, open one for each.

    Parameters
    ----------
    store
        The store, its folder, a pack in one file, or a URL; several are read as one.

    Attributes
    ----------
    store, connection
        The store, and the DuckDB connection, unguarded: for code of ours that needs more than `sql`.

    Raises
    ------
    StoreError
        If there is no store.

    Examples
    --------
    >>> with Database("neuronlake-store") as database:  # doctest: +SKIP
    ...     database.sql("select * from specialization where step = ?", [1000]).pl()
    """

    def __init__(self, store: Place) -> None:
        self.store = open_store(store)
        self.store.require()
        self.connection = duckdb.connect(config=dict(readonly.settings()))
        self.connection.execute("set TimeZone = 'UTC'")
        # A footer is read when a view is made, when a query is bound and when it runs: parse it once.
        self.connection.execute("set parquet_metadata_cache = true")
        self.store.attach(self.connection)
        self.connection.execute("set lock_configuration = true")
        self._views = {view.name: view for view in catalog.views()}
        self._known = {*TABLES, *self._views, *catalog.ranked()}
        self._made: set[str] = set()
        self._made_macros: set[str] = set()
        self._commented: set[str] = set()
        self._runs: Set[str] | None = None  # those of whose files tables are made; None: all
        # Tables that the last statement made of the files of some runs, and these.
        self._partial: set[str] = set()
        self._partial_runs: Set[str] | None = None
        self._found: dict[str, Sequence[str]] = {}  # the runs that meet conditions, by the query that finds them
        # The kept files of a view, open and so locked against removal; none where one is lacking.
        self._kept: dict[str, list[IO[bytes]]] = {}
        weakref.finalize(self, _close, self._kept)

    def sql(self, query: str, parameters: Sequence[object] | Mapping[str, object] | None = None) -> Result:
        """Run one statement that only reads, now, and return its rows.

        Parameters
        ----------
        query, parameters
            The SQL, and values for ``?`` in order, or for ``$name`` by name.

        Raises
        ------
        QueryError
            If the statement is wrong, or would change something.
        StoreError
            If a file of the store is missing, corrupt or cannot be read.
        """
        checked = readonly.check(self.connection, query)
        tree = parse_tree.parse(self.connection, checked)
        names = parse_tree.named(tree, checked, self._known)
        narrowed, runs = checked, None
        try:
            if tree:
                narrowed, runs = parse_tree.narrowed(self.connection, checked, tree, self._runs_where)
            with self._of_runs(runs):
                for name in sorted(names):
                    self.make(name)
                self._make_macros(checked)
                if names == self._known:  # of a statement that lists them
                    self._make_macros(catalog.macros())
                    self._comment(names)
                started = time.perf_counter()
                result = run(self.connection, query.replace(checked, narrowed), parameters)
                LOGGER.debug("%.0f ms: %s", 1000 * (time.perf_counter() - started), query)
                return result
        except duckdb.CatalogException as error:
            self._make_missing(error)
        except ENGINE_ERRORS as error:
            if not self._remake_lost():
                self._blame(error, names)
                raise QueryError(explain(error)) from error
        return self.sql(query, parameters)

    def ask(self, name: str, /, **parameters: object) -> Result:
        """Run the SQL of ``statements/<name>.sql``; of `parameters` it takes those that it names."""
        query = statement(name)
        return self.sql(query, {named: parameters[named] for named in re.findall(r"\$(\w+)", query)})

    def refresh(self) -> None:
        """Read the store again, for what was committed and kept since.

        A store at a URL, a pack in one file and several stores read as one stay as they were when they were opened. A
        store that is gone, or a file of it that is missing, corrupt or cannot be read, is a `StoreError`.
        """
        for name in ("_commits", "committed", "_runs_of_files"):
            self.__dict__.pop(name, None)
        self._found.clear()
        _close(self._kept)
        self._kept.clear()
        with self._of_runs(None):
            self._remake(self._made)

    def describe_tables(self) -> Result:
        """Return the tables, one a row: grain, numbers of rows and files in the store, what a row is."""
        return self._result(
            {
                "name": table.name,
                "grain": ", ".join(table.grain),
                "n_rows": sum(file.n_rows for file in self.committed[table.name]),
                "n_files": len(self.committed[table.name]),
                "description": table.description,
            }
            for table in tables.TABLES.values()
        )

    def describe_views(self) -> Result:
        """Return the views, one a row: subject, grain, what asks it by the paper's ranking, the question it answers.

        And whether kept rows are read, and why not. Intermediate views, which only others are meant to read, come last.
        """
        rows = []
        for name, view in self._views.items():
            runs = () if self.store.is_read_only else self.pieces(name)
            why_not = (cache.reason(self.store, name, self.fingerprint(name, run), run) for run in runs)
            is_kept = bool(self.kept_files(name))
            rows.append(
                {
                    "name": name,
                    "subject": "intermediate" if view.is_intermediate else view.subject,
                    "grain": ", ".join(view.grain),
                    "by_ranking": f"{view.macro}('predictivity')" if view.is_ranked else None,
                    "is_materialized": is_kept,
                    "not_read_because": None if is_kept else next(filter(None, why_not), None),
                    "answers": view.answers,
                }
            )
        return self._result(rows)

    def describe_columns(self, name: str) -> Result:
        """Return the columns of a table or view, one a row: type and meaning; `UnknownNameError` if there is none."""
        check_known("table or view", [name], self._known)
        name = catalog.ranked()[name].name if name in catalog.ranked() else name
        self.make(name)
        self._comment([name])
        query = "select column_name as name, data_type as type, comment as description from duckdb_columns()"
        return run(self.connection, f"{query} where table_name = ? order by column_index", [name])

    def script(self) -> str:
        """Return SQL that makes the same tables, macros and views in any DuckDB client.

        It reads the files that are committed now, at paths relative to the variable ``store``, which its first
        statement sets: so it serves for a copy of the store too. A missing or corrupt file is a `StoreError`.
        """
        head = Path(__file__).with_name("script_head.sql").read_text(encoding="utf-8").strip()
        parts = [head.format(store=quoting.path(self.store.root)), catalog.macros().strip()]
        for name in dict.fromkeys([*TABLES, *(name for view in self._views for name in catalog.reads(view))]):
            query = self.query_of(name, root="getvariable('store')")
            parts.append(f"{catalog.definition(name, query)};\n{catalog.comments(name)}")
        return "\n\n".join(parts) + "\n"

    def close(self) -> None:
        """Close the connection, and the kept files that it reads."""
        self.connection.close()
        _close(self._kept)

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _commits(self) -> Sequence[Commit]:
        self.store.require()
        return self.store.commits()

    @cached_property
    def committed(self) -> Mapping[str, Sequence[CommittedFile]]:
        """The committed files by table, as of the first use or the last `refresh`."""
        files: dict[str, list[CommittedFile]] = {name: [] for name in TABLES}
        every = [(commit, file) for commit in self._commits for file in commit.files]
        listed = {commit.run_id for commit, file in every if file.table == "function_top_neurons"}
        for commit, file in every:
            files[file.table].append(file)
            if file.table == "neuron_functions" and commit.job not in listed:
                files["unlisted_scores"].append(file)
        return files

    @cached_property
    def _runs_of_files(self) -> Mapping[str, str]:
        return {file.path: commit.run_id for commit in self._commits if commit.run_id for file in commit.files}

    def run_of(self, file: CommittedFile) -> str | None:
        """Return the run that all rows of a file are of, and that its name says; None of other jobs than runs'."""
        run_id = self._runs_of_files.get(file.path)
        is_by_run = run_id and TABLES[file.table].grain[0] == "run_id" and catalog.is_named_by(file.path, run_id)
        return run_id if is_by_run else None

    def pieces(self, view: str) -> tuple[str | None, ...]:
        """Return the runs whose rows of a view are kept each in a file of its own; None: all rows are kept in one."""
        runs = {self.run_of(file) for file in self.committed["runs"]}
        is_by_run = self._views[view].is_by_run and runs and None not in runs
        return tuple(sorted(filter(None, runs))) if is_by_run else (None,)

    def fingerprint(self, view: str, run_id: str | None = None) -> str:
        """Return the digest of everything that a view's rows, of a run, come from: macros, views, tables and files."""
        reads = catalog.reads(view)
        tables = [name for name in reads if name in TABLES]
        files = (file for name in tables for file in self.committed[name])
        return identifier(
            {
                "macros": catalog.macros(),
                "views": {name: catalog.query(name) for name in reads if name not in TABLES},
                "tables": {name: TABLES[name].column_names for name in tables},
                "files": sorted(file.sha256 for file in files if not run_id or self.run_of(file) in (run_id, None)),
            }
        )

    def kept_files(self, name: str) -> list[Path]:
        """Return the files of a view's kept rows, one of each of its `pieces`; [] if one lacks."""
        if self.store.is_read_only or not cache.folder_of(self.store, name).exists():
            return []
        if name not in self._kept:
            self._kept[name] = []  # a single one stays open, and so locked against removal
            for run_id in (pieces := self.pieces(name)):
                file = cache.open_kept(self.store, name, self.fingerprint(name, run_id), run_id)
                if file is None:
                    self._kept[name] = []
                    break
                if len(pieces) > 1:  # a process may open so many files only: where one goes, the view is computed
                    file.close()
                self._kept[name].append(file)
        return [Path(file.name) for file in self._kept[name]]

    def query_of(self, name: str, *, root: str | None = None) -> str:
        """Return the SQL that defines the view of a table, a view or a macro, without regard to kept rows."""
        # `root` is an SQL expression for the store's folder, by default its path.
        if name not in TABLES:
            return catalog.query(name)
        parts: dict[bool, list[CommittedFile]] = {}
        runs = {None, *self._runs} if self._runs is not None else None
        for file in self.committed[name]:
            run_id = self.run_of(file)
            if runs is None or run_id in runs:
                # DuckDB need not choose among files that are chosen.
                parts.setdefault(run_id is not None and runs is None, []).append(file)
        queries = []
        for of_runs, files in parts.items():
            places = (self.store.address(file) if root is None else file.path for file in files)
            listed = f"[{', '.join(map(quoting.path, places))}]"
            if root is not None:
                listed = f"list_transform({listed}, lambda file: {root} || '/' || file)"
            queries.append(catalog.table_query(TABLES[name], listed, sum(file.n_rows for file in files), of_runs))
        none = ((column.name, column.duckdb_type) for column in TABLES[name].columns)
        return "\nunion all by name\n".join(queries) or catalog.empty_query(none)

    def make(self, name: str) -> None:
        """Create the view of a table, or a view or macro and all it reads, unless they exist."""
        for each in [name] if self._is_read_alone(name) else catalog.reads(name):
            if each not in self._made:
                with self.explained(each):
                    self.connection.execute(catalog.definition(each, self._definition(each), deferred=True))
                self._made.add(each)
                self._partial.discard(each)
                self._commented.discard(each)

    def _is_read_alone(self, name: str) -> bool:
        """Return whether the rows of a view come from none of what it reads: they are kept, or there are none."""
        view = self._views.get(name) or catalog.ranked().get(name)
        if view is None:
            return False
        lacks = view.needs is not None and not self.committed[view.needs]
        return lacks or (name in self._views and bool(self.kept_files(name)))

    def _definition(self, name: str) -> str:
        """Return the SQL that defines the view of a table, a view or a macro, with regard to kept rows."""
        view = self._views.get(name) or catalog.ranked().get(name)
        if view is None:
            return self.query_of(name)
        kept_rows = ""
        if kept := self.kept_files(view.name):
            listed = ", ".join(map(quoting.path, kept))
            kept_rows = f"from ({catalog.scan(f'[{listed}]', of_runs=self.pieces(view.name) != (None,))})"
        if self._is_read_alone(name):
            return kept_rows or catalog.empty_query(catalog.columns_of_none(view))
        query = catalog.query(name)
        self._make_macros(query)
        live = f"select * from ({query}) where ranking is distinct from 'lift'"
        return f"{kept_rows} where ranking = 'lift' union all by name {live}" if kept else query

    @contextlib.contextmanager
    def _of_runs(self, runs: Set[str] | None) -> Iterator[None]:
        """Make tables, for one statement, of the files of some runs alone, unless they are made of all; None: all."""
        # The list of the files of 200 runs takes longer to make and to read than all else about one of them.
        while self._partial and runs != self._partial_runs:
            self.connection.execute(f"drop view {self._partial.pop()}")
        before, self._runs, self._partial_runs = {*self._made}, runs, runs
        self._made |= self._partial
        try:
            yield
        finally:
            self._runs = None
            if runs is not None:  # the next one drops them: this one may be stuck, and its thread in DuckDB
                self._partial = (self._made - before) & TABLES.keys()
                self._made -= self._partial

    def _comment(self, names: Collection[str]) -> None:
        """Say what views and their columns mean, which takes longer than to make them."""
        for name in sorted({*names} - self._commented):
            with self.explained(name):
                self.connection.execute(catalog.comments(name))
            self._commented.add(name)

    def _make_macros(self, sql: str) -> None:
        """Create the macros that some SQL names, unless they exist."""
        for name in catalog.macros_in(sql):
            if name not in self._made_macros:
                self.connection.execute(catalog.macros_by_name()[name])
                self._made_macros.add(name)

    def _runs_where(self, query: str, folders: Set[str]) -> Sequence[str]:
        """Return the runs that a query of ``run_id from runs`` finds, and those that have files and are unknown.

        `folders` are those of the model and the revision that they must have: of others no file is opened.
        """
        if query not in self._found:
            files = {file.path: self.run_of(file) for file in self.committed["runs"]}
            known = {*files.values()}
            within = {run_id for path, run_id in files.items() if run_id and folders <= {*path.split("/")}}
            with self._of_runs(within if folders and None not in known else None):
                self.make("runs")
                found = {row[0] for row in self.connection.execute(query).fetchall()}
            self._found[query] = sorted(found | {*self._runs_of_files.values()} - known)
        return self._found[query]

    @contextlib.contextmanager
    def explained(self, name: str) -> Iterator[None]:
        """Raise DuckDB's errors about a table or view as errors of the store or the query."""
        try:
            yield
        except ENGINE_ERRORS as error:
            self._blame(error, [name])
            kind = "table" if name in TABLES else "view"
            raise QueryError(f"{kind} {name}: {explain(error)}") from error

    def _make_missing(self, error: duckdb.CatalogException) -> None:
        """Create the table or view that DuckDB missed, as in query_table('ru' || 'ns'); raise if there is none."""
        missing = re.search(r"Table with name (.*) does not exist!", str(error))
        if missing is None:
            raise QueryError(explain(error)) from error
        if missing[1].lower() not in self._known - self._made:
            # DuckDB's own suggestion is of names that the views of this store never have.
            raise QueryError(str(UnknownNameError("table or view", missing[1], self._known))) from error
        self.make(missing[1].lower())

    def _remake(self, names: Iterable[str]) -> None:
        names = sorted(names)
        self._made.difference_update(names)
        for name in names:
            self.make(name)

    def _remake_lost(self) -> bool:
        """Compute the views whose kept file was deleted in spite of its lock; return whether there were any."""
        lost = {name: kept for name, kept in self._kept.items() if not all(Path(file.name).exists() for file in kept)}
        _close(lost)
        self._kept.update({name: [] for name in lost})
        self._remake([*lost, *(macro for macro, view in catalog.ranked().items() if view.name in lost)])
        return bool(lost)

    def _result(self, rows: Iterable[Mapping[str, object]]) -> Result:
        return run(self.connection, "select unnest(?, recursive := true)", [list(rows)])

    def _blame(self, error: BaseException, names: Collection[str]) -> None:
        """Raise a `StoreError` if the files that tables and views are read from explain DuckDB's error."""
        if not self.store.is_read_only:
            tables = sorted({source for name in names for source in catalog.reads(name)} & set(TABLES))
            files = (file for table in tables for file in self.committed[table])
            check_files(error, ((self.store.locate(file), file) for file in files))
        elif isinstance(error, duckdb.IOException | duckdb.InvalidInputException) or type(error) is duckdb.Error:
            raise StoreError(f"cannot read {self.store}: {explain(error)}") from error


def _close(kept: Mapping[str, list[IO[bytes]]]) -> None:
    for files in kept.values():
        for file in files:
            file.close()
