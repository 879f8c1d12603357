"""How rows lie in a Parquet file."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuronlake.errors import StoreError
from neuronlake.schema import parquet
from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.tables import SCHEMA_VERSION, TABLES, table


def test_columns_are_zstd_with_dictionaries_on_keys_and_split_floats(tmp_path, neurons):
    parquet.write(table("neurons"), neurons(100), tmp_path / "file.parquet", metadata={})
    group = pq.read_metadata(tmp_path / "file.parquet").row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    for name, column in columns.items():
        if table("neurons").column(name).type == "float32":
            assert "BYTE_STREAM_SPLIT" in column.encodings, name
            assert not column.has_dictionary_page, name
    assert columns["run_id"].has_dictionary_page
    assert columns["layer"].statistics.has_min_max


def test_row_groups_hold_122880_rows(tmp_path, experts):
    one = experts(1)
    n = 122_880 + 5
    columns = [pa.array(np.repeat(one.column(name).to_numpy(zero_copy_only=False), n)) for name in one.column_names[:3]]
    columns += [pa.array(np.arange(n, dtype=np.int32)), pa.array(np.zeros(n, np.int32))]
    data = pa.Table.from_arrays(columns, names=one.column_names)
    parquet.write(table("experts"), data, tmp_path / "file.parquet", metadata={})
    found = pq.read_metadata(tmp_path / "file.parquet")
    assert [found.row_group(index).num_rows for index in range(found.num_row_groups)] == [122_880, 5]


def test_a_layer_begins_a_row_group_unless_that_would_be_small(tmp_path, experts):
    one, sizes = experts(1), (5_000, 100, 4_500, 5_000)
    n = sum(sizes)
    columns = {name: np.repeat(one.column(name).to_numpy(zero_copy_only=False), n) for name in one.column_names}
    columns |= {
        "layer": np.repeat(np.arange(len(sizes), dtype=np.int16), sizes),
        "neuron": np.arange(n, dtype=np.int32),
    }
    parquet.write(table("experts"), pa.table(columns), tmp_path / "file.parquet", metadata={})
    found = pq.read_metadata(tmp_path / "file.parquet")
    assert [found.row_group(index).num_rows for index in range(found.num_row_groups)] == [5_000, 4_600, 5_000]


def test_the_file_says_schema_version_table_writer_and_what_its_columns_mean(store, experts):
    with store.job("j", kind="partition") as job:
        job.write("experts", experts())
        job.commit()
    (path,) = store.files("experts")
    metadata = pq.read_metadata(path).metadata
    assert metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
    assert metadata[b"table"] == b"experts"
    assert metadata[b"job"] == b"j"
    assert metadata[b"neuronlake_version"]
    assert metadata[b"column expert"] == b"index of the expert within its layer"


def test_the_file_of_a_run_says_its_run_id(store, neurons):
    with store.job("0123456789abcdef", kind="run") as job:
        job.write("neurons", neurons(run_id="0123456789abcdef"), model="m", revision="main")
        job.commit()
    (path,) = store.files("neurons")
    assert pq.read_metadata(path).metadata[b"run_id"] == b"0123456789abcdef"


def example(column):
    """Return a value of a column's type that is easily lost."""
    return {
        "bool": True,
        "int16": -(2**15),
        "int32": -(2**31),
        "int64": -(2**63),
        "float32": float(np.float32(0.1)),
        "float64": 0.1,
        "string": "naïve 你好 \n\x00🙂",
        "timestamp": datetime.datetime(2024, 2, 29, 1, 2, 3, 456789, tzinfo=datetime.UTC),
    }[column.type]


@pytest.mark.parametrize("name", TABLES)
def test_what_is_written_is_what_is_read(tmp_path, name):
    declared = table(name)
    full = {column.name: example(column) for column in declared.columns}
    bare = {column.name: None if column.nullable else full[column.name] for column in declared.columns}
    data = pa.Table.from_pylist([full, bare], schema=arrow_schema(declared))
    path = tmp_path / "file.parquet"
    parquet.write(declared, data, path, metadata={})
    assert parquet.n_rows(path) == 2
    read = parquet.read((path,), declared.column_names)
    assert read.to_pylist() == [full, bare]
    assert [field.type for field in read.schema] == [field.type for field in data.schema]


def test_dictionary_encoded_keys_read_back_as_plain_strings(tmp_path, experts):
    rows = experts()
    rows = rows.set_column(1, "stack", rows.column("stack").dictionary_encode())
    parquet.write(table("experts"), rows, tmp_path / "file.parquet", metadata={})
    assert pq.read_table(tmp_path / "file.parquet").schema.field("stack").type == pa.string()


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_a_file_that_is_not_parquet_is_named(tmp_path, content):
    path = tmp_path / "file.parquet"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"cannot read .*file\.parquet: "):
        parquet.n_rows(path)
    with pytest.raises(StoreError, match=r"cannot read .*file\.parquet: "):
        parquet.read((path,), ("stack",))


def test_a_column_that_is_not_there_is_an_error(tmp_path, experts):
    parquet.write(table("experts"), experts(), tmp_path / "file.parquet", metadata={})
    with pytest.raises(StoreError, match=r"cannot read .*file\.parquet: .*absent"):
        parquet.read((tmp_path / "file.parquet",), ("stack", "absent"))


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=r"cannot read .*absent\.parquet"):
        parquet.read((tmp_path / "absent.parquet",), ("stack",))
