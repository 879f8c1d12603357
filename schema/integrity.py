"""Is a store what its commits and declarations say? Every committed file is opened and read to the end.

A value altered to another valid one, with a new digest in the commit, goes unseen.
"""

import contextlib
import glob
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import SchemaError, StoreError, one_line
from . import card, conformance, disk, leftovers
from .commits import Commit, CommittedFile, read_commits
from .leftovers import Problem
from .names import STAGING, Place, file_sha256
from .tables import SCHEMA_VERSION, Table, table


class _Keys(NamedTuple):
    """Smallest and largest values of the grain's columns in one file: all its keys sort between these two."""

    low: tuple[Any, ...]
    high: tuple[Any, ...]
    path: Path


def problems(store: Path) -> Iterator[Problem]:
    """Yield what is wrong with the store in a folder: see `Store.check`."""
    # In this order, so that what a job moves to data meanwhile is in a commit by now, or its job is running.
    data_files = list(leftovers.data_files(store))
    states = leftovers.states(store)
    commits, ignored = read_commits(store)
    for name, reason in ignored.items():
        yield Problem(f"commits/{name}", reason)
    keys: dict[str, list[_Keys]] = defaultdict(list)
    with duckdb.connect() as database:
        for commit in commits:
            for file in commit.files:
                try:
                    keys[file.table] += check_file(store, commit, file, database)
                except (SchemaError, StoreError) as error:
                    yield Problem(file.path, str(error))
    for name, files in keys.items():
        yield from _repeated(store, table(name), files)
    committed = {file.path for commit in commits for file in commit.files}
    for path, unread in data_files:
        place = Place.of(path)
        if unread is not None:
            yield Problem(path, f"cannot be read: {unread.strerror}")
        elif path not in committed and (place is None or states.get(place.job) != "running"):
            yield Problem(path, "in no commit, and so invisible to queries")
    yield from _card(store)


def check_file(store: Path, commit: Commit, file: CommittedFile, database: duckdb.DuckDBPyConnection) -> list[_Keys]:
    """Read a committed file to its end, raise unless it is what was committed, and return its keys if it has rows."""
    fault = disk.fault(store, file.path)
    if fault is not None:
        raise StoreError(fault)
    path = store / file.path
    if path.stat().st_size != file.size_bytes or file_sha256(path) != file.sha256:
        raise StoreError("altered since it was committed (size or sha256 differs)")
    declared = table(file.table)
    texts = [name for name in declared.grain if declared.column(name).type == "string"]
    is_older = commit.schema_version < SCHEMA_VERSION
    late = [column.name for column in declared.columns if column.is_late or column.holds_text or is_older]
    with disk.store_errors("cannot be read", pa.ArrowException, duckdb.Error, UnicodeDecodeError):
        metadata = pq.read_metadata(path)
        _check_described(commit, file, metadata)
        may_lack = [name for name in late if name not in declared.grain]
        conformance.check_columns(declared, metadata.schema.to_arrow_schema(), may_lack=may_lack)
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=texts) as parquet:
            # A group of rows in memory at a time, and then the keys alone.
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group)
                rows.validate(full=True)
                conformance.check_values(declared, rows)
            keys = parquet.read(columns=list(declared.grain))
        # DuckDB, which answers queries, is stricter in places. A hash needs every value; escaped, a path is no pattern.
        query = "select bit_xor(hash(columns(*))) from read_parquet(?, hive_partitioning = false)"
        database.execute(query, [glob.escape(str(path))]).fetchall()
    conformance.check_grain(declared, keys)
    bounds = [_bounds(keys.column(name)) for name in declared.grain] if keys.num_rows else []
    if commit.run_id and bounds and declared.grain[0] == "run_id" and set(bounds[0]) != {commit.run_id}:
        raise StoreError(f"holds rows of run {max(set(bounds[0]) - {commit.run_id})} in a file of run {commit.run_id}")
    return [_Keys(tuple(low for low, _ in bounds), tuple(high for _, high in bounds), path)] if bounds else []


def _check_described(commit: Commit, file: CommittedFile, metadata: pq.FileMetaData) -> None:
    """Raise unless a file's metadata agree with its commit."""
    if metadata.num_rows != file.n_rows:
        raise StoreError(f"holds {metadata.num_rows:,} rows where {file.n_rows:,} were committed")
    described = metadata.metadata or {}
    expected = {"table": file.table, "job": commit.job, "schema_version": str(commit.schema_version)}
    for name, value in expected.items():
        stated = described.get(name.encode(), b"").decode(errors="replace")
        if stated != value:
            raise StoreError(f"says of itself {name} {stated!r} where {value!r} was committed")


def _bounds(column: pa.ChunkedArray) -> tuple[Any, Any]:
    if pa.types.is_dictionary(column.type):
        values = {value for chunk in column.chunks for value in chunk.dictionary.to_pylist()}
        return min(values), max(values)
    bounds = pc.min_max(column).as_py()
    return bounds["min"], bounds["max"]


def _repeated(store: Path, declared: Table, files: Sequence[_Keys]) -> Iterator[Problem]:
    """Yield that files of one table hold a key twice; only those whose bounds overlap are read again."""
    for group in _overlapping(files):
        try:
            keys = [pq.read_table(file.path, columns=list(declared.grain), partitioning=None) for file in group]
            conformance.check_grain(declared, pa.concat_tables(keys))
        except (pa.ArrowException, OSError) as error:
            yield Problem(f"data/{declared.name}", f"cannot be read: {one_line(error)}")
        except SchemaError as error:
            first, *others = (file.path.relative_to(store).as_posix() for file in group)
            more = "" if len(others) == 1 else f" and {len(others) - 1} more"
            yield Problem(first, f"together with {others[0]}{more}: {error}")


def _overlapping(files: Sequence[_Keys]) -> list[list[_Keys]]:
    """Return groups of two or more files that may hold the same keys."""
    groups: list[list[_Keys]] = []
    for file in sorted(files):
        if groups and file.low <= max(other.high for other in groups[-1]):
            groups[-1].append(file)
        else:
            groups.append([file])
    return [group for group in groups if len(group) > 1]


def _card(store: Path) -> Iterator[Problem]:
    """Yield that the card is missing, or of other commits, as after files of two stores were copied together."""
    fault = disk.fault(store, "README.md")
    # Under this lock a job writes the card and then its commit, maybe since the files above were read.
    lock = disk.locked(store / STAGING, is_needed=False) if (store / STAGING).is_dir() else contextlib.nullcontext()
    try:
        with lock:
            if fault in (None, "missing") and not card.is_current(store / "README.md", read_commits(store)[0]):
                fault = "no card counts the rows of the commits; 'check --repair' writes it"
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    if fault not in (None, "missing"):
        yield Problem("README.md", str(fault))
