"""How a table is laid out in a Parquet file."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import StoreError, one_line
from .tables import SCHEMA_VERSION, Table

__all__ = ["n_rows", "read", "write"]

ROW_GROUP_ROWS = 122_880


def write(declared: Table, data: pa.Table, path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write rows as one Parquet file: zstd, dictionaries on keys, floats split into byte streams.

    The file's key-value metadata says the schema version, the table, what its columns mean, and the run_id where the
    table has one and all rows are of one run.

    Parameters
    ----------
    declared
        The declaration of the table.
    data
        Rows that conform to it.
    path
        File to write.
    metadata
        Further key-value metadata.
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
        writer.write_table(data, row_group_size=ROW_GROUP_ROWS)


def n_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file, from its footer.

    Raises
    ------
    StoreError
        If the file is not Parquet, or is cut short.
    """
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read {path}: {one_line(error)}") from error


def read(paths: tuple[Path, ...], columns: tuple[str, ...]) -> pa.Table:
    """Return columns of committed files, in the order of the files.

    Raises
    ------
    StoreError
        If a file is missing, not Parquet, or lacks a column.
    """
    tables = []
    for path in paths:
        try:
            tables.append(pq.read_table(path, columns=list(columns), partitioning=None))
            tables[-1].validate(full=True)  # texts that are no UTF-8 would be found only where they are used
        except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
            raise StoreError(f"cannot read {path}: {one_line(error)}") from error
    return pa.concat_tables(tables)
