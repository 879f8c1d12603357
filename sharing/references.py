"""Which jobs depend on which: by the ids of corpora, runs, partitions and studies that their rows name."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..schema.commits import Commit, CommittedFile
from ..schema.disk import store_errors
from ..schema.store import Store
from ..schema.tables import TABLES

Key = tuple[str, str]
"""What a job makes and others refer to: the column of its id, and the id; and itself, as ``job``."""

DEFINED_BY: Mapping[str, str] = {
    "corpus": "corpora",
    "run_id": "runs",
    "partition_id": "partitions",
    "alignment_id": "alignments",
    "perturbation_id": "perturbation_studies",
    "emergence_id": "emergence_studies",
}
"""The columns that name what a job makes, and the table that has a row of it."""

_ALIASES = {"last_run_id": "run_id", "reference_run_id": "run_id"}
# A column ``job`` names a job itself, which no table defines.
_NAMING = {**{name: name for name in (*DEFINED_BY, "job")}, **_ALIASES}


@dataclass(frozen=True, slots=True)
class Job:
    """A committed job, what it makes, and what its rows refer to beside that."""

    commit: Commit
    makes: frozenset[Key]
    refers: frozenset[Key]
    checkpoints: frozenset[tuple[str, str]]  # model and revision of its rows


def jobs(store: Store) -> tuple[Job, ...]:
    """Return all committed jobs of a store, oldest first; a file that cannot be read is a `StoreError`."""
    return tuple(read_job(store, commit) for commit in store.commits())


def read_job(store: Store, commit: Commit) -> Job:
    """Return a committed job with what its files say; one that cannot be read is a `StoreError`."""
    makes, refers, checkpoints = {("job", commit.job)}, set[Key](), set[tuple[str, str]]()
    for file in commit.files:
        columns = TABLES[file.table].column_names
        has_model = {"model", "revision"} <= {*columns}
        named = [name for name in columns if name in _NAMING]
        rows = _distinct(store, file, (*named, *(("model", "revision") if has_model else ())))
        if has_model:
            checkpoints |= {(str(row["model"]), str(row["revision"])) for row in rows}
        for name in named:
            keys = {(_NAMING[name], str(row[name])) for row in rows if row.get(name) is not None}
            (makes if DEFINED_BY.get(name) == file.table else refers).update(keys)
    return Job(commit, frozenset(makes), frozenset(refers - makes), frozenset(checkpoints))


def _distinct(store: Store, committed: CommittedFile, columns: tuple[str, ...]) -> list[dict[str, object]]:
    """Return the distinct rows of some columns of a file, those that it has; only what statistics lack is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    failure = store_errors(f"cannot read {store.address(committed)}", pa.ArrowException, UnicodeDecodeError)
    with failure, pq.ParquetFile(store.open(committed)) as file:
        places = {file.metadata.schema.column(place).name: place for place in range(file.metadata.num_columns)}
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        present = [name for name in columns if name in places]
        found: dict[str, object] = {}
        for name in present:
            statistics = [group.column(places[name]).statistics for group in groups]
            bounds = {of for each in statistics if each and each.has_min_max for of in (each.min, each.max)}
            if len(bounds) == 1 and all(each and each.has_min_max and not each.null_count for each in statistics):
                found[name] = bounds.pop()
        read = [name for name in present if name not in found]
        rows = file.read(columns=read).group_by(read).aggregate([]).to_pylist() if read else [{}]
    return [found | row for row in rows] if groups else []
