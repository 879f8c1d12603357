"""Is a store what its commits and declarations say? Every committed file is opened and read to the end.

What goes unseen is a value altered to another valid one, by whoever writes its digest anew as well.
"""

import contextlib
import glob
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import SchemaError, StoreError, one_line
from . import card, conformance, disk, leftovers
from .commits import Commit, CommittedFile, Place, read_commits
from .identity import file_sha256
from .store import Problem, Store
from .tables import SCHEMA_VERSION, Table, table

__all__ = ["problems"]


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of a file's rows, by the bounds of the columns of its grain.

    Parameters
    ----------
    path
        The file.
    low, high
        Smallest and largest value of each column.
    """

    path: Path
    low: tuple[Any, ...]
    high: tuple[Any, ...]

    def may_meet(self, other: "_Keys") -> bool:
        """Return whether both files may hold a row of the same key."""
        return all(
            low <= other_high and other_low <= high
            for low, high, other_low, other_high in zip(self.low, self.high, other.low, other.high, strict=True)
        )


def problems(store: Store) -> Iterator[Problem]:
    """Yield what is wrong with a store: see `Store.check`.

    Raises
    ------
    StoreError
        If a commit cannot be read, so that nobody knows what the store holds.
    """
    # In this order: what a job moves to data meanwhile is in a commit by the time they are read, or its job runs.
    lying = list(leftovers.data_files(store))
    running = {job for job, state in store.unfinished().items() if state == "running"}
    found = read_commits(store.path)
    for name, what in found.ignored.items():
        yield Problem(f"commits/{name}", what)
    keys: dict[str, list[_Keys]] = defaultdict(list)
    with duckdb.connect() as database:
        for commit in found.commits:
            for file in commit.files:
                try:
                    held = _read(store, commit, file, database)
                    if held is not None:
                        keys[file.table].append(held)
                except (SchemaError, StoreError) as error:
                    yield Problem(file.path, str(error))
    for name, files in keys.items():
        yield from _repeated(store, table(name), files)
    committed = {file.path for commit in found.commits for file in commit.files}
    for path, unread in lying:
        place = Place.of(path)
        if unread is not None:
            yield Problem(path, f"cannot be read: {unread.strerror}")
        elif path not in committed and (place is None or place.job not in running):
            yield Problem(path, "in no commit, and so invisible to queries")
    yield from _card(store)


def _read(store: Store, commit: Commit, file: CommittedFile, database: duckdb.DuckDBPyConnection) -> _Keys | None:
    """Read a committed file to its end and return the bounds of its keys, None if it has no rows.

    Raises
    ------
    SchemaError, StoreError
        If it is not what was committed.
    """
    fault = disk.fault(store.path, file.path)
    if fault is not None:
        raise StoreError(fault)
    path = store.path / file.path
    if path.stat().st_size != file.size_bytes or file_sha256(path) != file.sha256:
        raise StoreError("altered since it was committed (size or sha256 differs)")
    declared = table(file.table)
    texts = [name for name in declared.grain if declared.column(name).type == "string"]
    late = [each.name for each in declared.columns if each.is_late or commit.schema_version < SCHEMA_VERSION]
    try:
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
        # What answers queries is stricter in places. A hash needs every value; escaped, a path is no pattern.
        query = "select bit_xor(hash(columns(*))) from read_parquet(?, hive_partitioning = false)"
        database.execute(query, [glob.escape(str(path))]).fetchall()
    except (pa.ArrowException, duckdb.Error, OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot be read: {one_line(error)}") from error
    conformance.check_grain(declared, keys)
    if not keys.num_rows:
        return None
    bounds = [_bounds(keys.column(name)) for name in declared.grain]
    return _Keys(path, tuple(low for low, _ in bounds), tuple(high for _, high in bounds))


def _check_described(commit: Commit, file: CommittedFile, metadata: pq.FileMetaData) -> None:
    """Raise unless a file says of itself what its commit says of it."""
    if metadata.num_rows != file.n_rows:
        raise StoreError(f"holds {metadata.num_rows:,} rows where {file.n_rows:,} were committed")
    said = metadata.metadata or {}
    expected = {"table": file.table, "job": commit.job, "schema_version": str(commit.schema_version)}
    for name, value in expected.items():
        found = said.get(name.encode(), b"").decode(errors="replace")
        if found != value:
            raise StoreError(f"says of itself {name} {found!r} where {value!r} was committed")


def _bounds(column: pa.ChunkedArray) -> tuple[Any, Any]:
    if pa.types.is_dictionary(column.type):
        values = {value for chunk in column.chunks for value in chunk.dictionary.to_pylist()}
        return min(values), max(values)
    found = pc.min_max(column).as_py()
    return found["min"], found["max"]


def _repeated(store: Store, declared: Table, files: Sequence[_Keys]) -> Iterator[Problem]:
    """Yield that files of one table hold a key twice; only those whose bounds overlap are read again."""
    for group in _overlapping(files):
        try:
            keys = [pq.read_table(file.path, columns=list(declared.grain), partitioning=None) for file in group]
            conformance.check_grain(declared, pa.concat_tables(keys))
        except (pa.ArrowException, OSError) as error:
            yield Problem(f"data/{declared.name}", f"cannot be read: {one_line(error)}")
        except SchemaError as error:
            first, *others = (file.path.relative_to(store.path).as_posix() for file in group)
            more = "" if len(others) == 1 else f" and {len(others) - 1} more"
            yield Problem(first, f"together with {others[0]}{more}: {error}")


def _overlapping(files: Sequence[_Keys]) -> Iterator[list[_Keys]]:
    """Yield groups of several files that may hold the same keys."""
    groups: list[list[_Keys]] = []
    for file in sorted(files, key=lambda each: each.low):
        # Of those far behind, no file to come can hold a key.
        near = [group for group in groups if any(file.low[0] <= each.high[0] for each in group)]
        yield from (group for group in groups if group not in near and len(group) > 1)
        meeting = [group for group in near if any(file.may_meet(each) for each in group)]
        groups = [group for group in near if group not in meeting]
        groups.append([*(each for group in meeting for each in group), file])
    yield from (group for group in groups if len(group) > 1)


def _card(store: Store) -> Iterator[Problem]:
    """Yield that the card is missing, or of other commits, as after files of two stores were copied together."""
    fault = disk.fault(store.path, "README.md")
    # A job writes the card and then its commit while it holds this folder, and may have done so since the files above
    # were begun to be read.
    held = disk.locked(store.staging) if store.staging.is_dir() else contextlib.nullcontext()
    try:
        with held:
            if fault in (None, "missing") and not card.is_current(store.path / "README.md", store.commits()):
                fault = "no card counts the rows of the commits; 'check --repair' writes it"
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    if fault not in (None, "missing"):
        yield Problem("README.md", str(fault))
