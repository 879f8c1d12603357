"""Other programs read the folder as it stands: every key a column, every row there."""

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset
import pytest

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

COLUMNS = list(table("neurons").column_names)


@pytest.fixture(params=["main", "step=1000"])
def filled(request, store, neurons, experts):
    for run, model in (("r1", "google/switch"), ("r2", "other")):
        with store.job(run, kind="run") as job:
            for part in (0, 1):
                rows = neurons(4, run_id=run, model=model, revision=request.param, neuron=range(part * 4, part * 4 + 4))
                job.write("neurons", rows, part=part, model=model, revision=request.param)
            job.commit()
    with store.job("p", kind="partition") as job:
        job.write("experts", experts())
        job.commit()
    return store


def keys(rows):
    return sorted((row["run_id"], row["model"], row["revision"], row["neuron"]) for row in rows)


@pytest.fixture
def expected(filled, request):
    revision = request.node.callspec.params["filled"]
    return sorted(
        (run, model, revision, neuron)
        for run, model in (("r1", "google/switch"), ("r2", "other"))
        for neuron in range(8)
    )


def test_duckdb_reads_it(filled, expected):
    found = duckdb.sql(f"from read_parquet('{filled.path}/data/neurons/**/*.parquet', union_by_name = true)")
    assert found.columns == COLUMNS
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    assert keys(rows) == expected
    assert {row["step"] for row in rows} == {None}


def test_polars_reads_it(filled, expected):
    found = pl.read_parquet(filled.path / "data/neurons")
    assert found.columns == COLUMNS
    assert keys(found.to_dicts()) == expected
    assert found["step"].null_count() == 16


def test_pandas_reads_it(filled, expected):
    found = pd.read_parquet(filled.path / "data/neurons")
    assert list(found.columns) == COLUMNS
    assert keys(found.to_dict("records")) == expected


def test_pyarrow_reads_it(filled, expected):
    found = pyarrow.dataset.dataset(filled.path / "data/neurons").to_table()
    assert found.column_names == COLUMNS
    assert keys(found.to_pylist()) == expected


def test_datasets_reads_it(filled, expected, tmp_path):
    datasets = pytest.importorskip("datasets")
    cache = str(tmp_path / "cache")
    assert datasets.get_dataset_config_names(str(filled.path)) == ["neurons", "experts"]
    found = datasets.load_dataset(str(filled.path), "neurons", split="train", cache_dir=cache)
    assert found.column_names == COLUMNS
    assert keys(found.to_list()) == expected
    assert len(datasets.load_dataset(str(filled.path), "experts", split="train", cache_dir=cache)) == 3


def test_the_database_reads_no_store_whose_name_the_name_of_its_own_matches_as_a_pattern(tmp_path, experts):
    for name in ("a?b", "a*b", "a[xy]b", "axb"):
        with Store(tmp_path / name).job("j", kind="partition") as job:
            job.write("experts", experts(2, partition_id=name))
            job.commit()
    for name in ("a?b", "a*b", "a[xy]b", "axb"):
        with Database(tmp_path / name) as database:
            assert database.sql("select partition_id from experts").rows() == [(name,)] * 2
