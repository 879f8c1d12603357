"""How a table is laid out in a Parquet file."""

import contextlib
import itertools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .commits import CommittedFile
from .disk import store_errors
from .tables import SCHEMA_VERSION, Table

if TYPE_CHECKING:
    from .store import Store

ROW_GROUP_ROWS = 122_880
FEWEST_ROWS = 4_096  # of a group of rows that ends where a layer does: fewer would be mostly footer


def write(declared: Table, data: pa.Table, path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write rows that conform to a table as one Parquet file: zstd, dictionaries on keys, floats as byte streams.

    The file's key-value metadata is `metadata` and the schema version, the table, what its columns mean, and the run_id
    where the table has one and all rows are of one run.
    """
    floats = [column.name for column in declared.columns if column.type.startswith("float")]
    others = [name for name in declared.column_names if name not in floats]
    # Statistics let a query skip row groups by the columns rows are sorted by; those of the others cost time only.
    pruning = [name for name in others if name not in ("family", "function", "text")]
    # What is declared not null needs no levels in the file.
    fields = [field.with_nullable(declared.column(field.name).nullable) for field in data.schema]
    data = pa.Table.from_arrays(data.columns, schema=pa.schema(fields))
    described = {"schema_version": str(SCHEMA_VERSION), "table": declared.name, **metadata}
    described |= {f"column {column.name}": column.description for column in declared.columns}
    run_ids = data.column("run_id").unique().to_pylist() if "run_id" in declared.grain else []
    if len(run_ids) == 1:
        described["run_id"] = run_ids[0]
    with pq.ParquetWriter(
        path,
        data.schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=others,
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        # Without the Arrow schema in the file, dictionary-encoded keys read back as plain strings everywhere.
        store_schema=False,
        write_statistics=pruning,
        write_batch_size=16_384,
    ) as writer:
        writer.add_key_value_metadata(described)
        for start, stop in itertools.pairwise(_borders(data)):
            writer.write_table(data.slice(start, stop - start), row_group_size=ROW_GROUP_ROWS)


def _borders(data: pa.Table) -> list[int]:
    """Return where groups of rows begin, which is where layers do, and the number of rows."""
    borders = [0]
    if "layer" in data.column_names:
        layer = data.column("layer").to_numpy()
        for border in (np.flatnonzero(np.diff(layer)) + 1).tolist():
            if border - borders[-1] >= FEWEST_ROWS:
                borders.append(border)
    return [*borders, data.num_rows]


def n_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file, from its footer; raise a `StoreError` if it is none or cut short."""
    with store_errors(f"cannot read {path}", pa.ArrowException, UnicodeDecodeError):
        return int(pq.read_metadata(path).num_rows)


@contextlib.contextmanager
def opened(store: "Store", file: CommittedFile) -> Iterator[pq.ParquetFile]:
    """Open a committed file of a store; what cannot be read of it, or is not in it, is a `StoreError`."""
    unreadable = (pa.ArrowException, KeyError, UnicodeDecodeError)
    with store_errors(f"cannot read {store.address(file)}", *unreadable), pq.ParquetFile(store.open(file)) as opened:
        yield opened


def read(paths: tuple[Path, ...], columns: tuple[str, ...], *, may_lack: Collection[str] = ()) -> pa.Table:
    """Return columns of committed files, in the order of the files; of strings that one may lack, NULL if it does."""
    tables = []
    for path in paths:
        with store_errors(f"cannot read {path}", pa.ArrowException, KeyError, UnicodeDecodeError):
            late = {*columns} & {*may_lack}
            lacking = late - {*pq.read_schema(path).names} if late else late
            found = pq.read_table(path, columns=[name for name in columns if name not in lacking], partitioning=None)
            for name in lacking:
                found = found.append_column(name, pa.nulls(found.num_rows, pa.string()))
            tables.append(found.select(columns))
            tables[-1].validate(full=True)  # texts that are no UTF-8 would raise only where they are used
    return pa.concat_tables(tables) if tables else pa.table({name: [] for name in columns})
