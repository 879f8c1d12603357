"""Verification: what is whole passes, what is not is named; a number changed with its digests is found by measuring."""

import json
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from serving import serving
from sharing import small_stores

from neuronlake.errors import StoreError
from neuronlake.schema import parquet
from neuronlake.schema.names import file_sha256
from neuronlake.schema.store import Store
from neuronlake.schema.tables import TABLES
from neuronlake.sharing.pack import pack_store
from neuronlake.sharing.verify import recompute, verify_store

pytestmark = pytest.mark.long


@pytest.fixture
def pack(measured, tmp_path) -> Path:
    return pack_store(measured.path, tmp_path / "pack", where="not is_random_init").path


def altered(pack: Path, table: str, change) -> None:
    """Change the rows of a table's first file, and every digest of it."""
    path = sorted((pack / "data" / table).rglob("*.parquet"))[0]
    with pq.ParquetFile(path) as file:
        metadata = {key.decode(): value.decode() for key, value in file.metadata.metadata.items() if b" " not in key}
        data = file.read()
    parquet.write(TABLES[table], change(data), path, metadata=metadata)
    name = path.relative_to(pack).as_posix()
    for commit in (pack / "commits").iterdir():
        fields = json.loads(commit.read_text())
        for file in fields["files"]:
            if file["path"] == name:
                described = {"size_bytes": path.stat().st_size, "sha256": file_sha256(path)}
                file |= described | {"n_rows": parquet.n_rows(path)}
        commit.write_text(json.dumps(fields))


def with_column(name: str, change):
    return lambda data: data.set_column(data.column_names.index(name), name, change(data.column(name)))


def first_set_to(value):
    return lambda column: pa.chunked_array([pa.array([value, *column.to_pylist()[1:]], column.type)])


def with_another_neuron(pack: Path):
    """Put another neuron, with its own scores, first on the first list."""

    def change(data: pa.Table) -> pa.Table:
        first, scores = data.slice(0, 1).to_pylist()[0], pq.read_table(pack / "data" / "neuron_functions").to_pylist()
        keys = ("run_id", "stack", "layer", "family", "function")
        of_list = [row for row in scores if all(row[name] == first[name] for name in keys)]
        last = min(of_list, key=lambda row: row["ap"] + row["ap_complement"])
        for name in ("neuron", "ap", "ap_complement"):
            data = with_column(name, first_set_to(last[name]))(data)
        return data

    return change


def test_a_whole_pack_passes_in_a_folder_and_at_a_url(pack):
    verdict = verify_store(pack)
    assert (verdict.problems, verdict.n_runs) == ((), 1)
    assert verdict.describe().endswith("whole, and agrees with itself")
    with serving(pack) as served:
        assert verify_store(served.url) == verdict


def test_rows_that_are_missing_or_refer_to_nothing_are_named(pack, tmp_path):
    for table, change, message in (
        ("neuron_functions", lambda data: data.slice(1), "scores where"),
        ("run_functions", lambda data: data.slice(1), "scores where"),
        ("texts", lambda data: data.slice(1), "of which texts has no row"),
        ("neuron_best", with_column("ap", first_set_to(0.123)), "best functions with other scores"),
        ("function_top_neurons", with_column("ap", first_set_to(0.123)), "top neurons with other scores"),
        ("neuron_best", lambda data: data.slice(1), "1 best functions that are not the best"),
        ("function_top_neurons", lambda data: data.slice(1), "1 lists of top neurons that are not the highest"),
        ("function_top_neurons", with_another_neuron(pack), "1 lists of top neurons that are not the highest"),
    ):
        copy = Path(tempfile.mkdtemp(dir=tmp_path)) / "pack"
        shutil.copytree(pack, copy)
        altered(copy, table, change)
        Store(copy).repair()
        problems = [problem.what for problem in verify_store(copy).problems]
        assert any(message in problem for problem in problems), (table, message, problems)
    (copy,) = [shutil.copytree(pack, tmp_path / "without")]
    for commit in (copy / "commits").glob("corpus-*"):
        commit.unlink()
    for file in (copy / "data").rglob("corpus-*"):
        file.unlink()
    Store(copy).repair()
    assert any("of which corpora has no row" in problem.what for problem in verify_store(copy).problems)


def test_a_digest_that_is_wrong_is_named(pack):
    path = next((pack / "data" / "neurons").rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (problem,) = verify_store(pack).problems
    assert problem.path == path.relative_to(pack).as_posix()


def test_only_recomputation_finds_a_score_that_was_changed_with_every_digest(pack, model, tmp_path):
    assert recompute(pack_store(pack, tmp_path / "pack.zip").path, layers=(1,), model=str(model)) == ()
    is_target = lambda data: pc.and_(pc.equal(data["layer"], 1), pc.equal(data["neuron"], 7))  # noqa: E731

    def change(data: pa.Table) -> pa.Table:
        values = pc.if_else(is_target(data), pc.cast(0.25, pa.float32()), data["ap_half_b"])
        return data.set_column(data.column_names.index("ap_half_b"), "ap_half_b", values)

    altered(pack, "neuron_functions", change)
    assert verify_store(pack).problems == ()
    assert recompute(pack, layers=(0,), model=str(model)) == ()
    (problem,) = recompute(pack, layers=(1,), model=str(model))
    assert "column ap_half_b, stack='encoder', layer=1, neuron=7" in problem.what
    assert ": 0.25 and " in problem.what


def test_a_p_value_that_none_can_be_hides_no_other(pack, model):
    change = with_column("p_value", lambda column: pa.chunked_array([pc.if_else(is_last(column), -0.5, column)]))
    altered(pack, "neuron_functions", change)
    (problem,) = recompute(pack, layers=(1,), model=str(model))
    assert "column p_value, stack='encoder', layer=1" in problem.what
    assert ": -0.5 and " in problem.what


def is_last(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([False] * (len(column) - 1) + [True])


def test_what_cannot_be_recomputed_is_said(pack, measured, model, tiny_model, tmp_path):
    (problem,) = recompute(pack, layers=(0,), model=str(tiny_model("roberta")))
    assert "cannot be measured" in problem.what or "the weights at hand are others" in problem.what
    (problem,) = recompute(pack, layers=(0,), model=str(model), tokenizer=str(tiny_model("gpt2")))
    assert "tokens where it had" in problem.what
    assert "`tokenizer` names the one it was measured with" in problem.what
    bare = pack_store(pack, tmp_path / "bare", with_texts=False).path
    (problem,) = recompute(bare, layers=(0,), model=str(model))
    assert "lacks its texts; `corpora` names a store that has them" in problem.what
    assert recompute(bare, layers=(0,), model=str(model), corpora=measured.path) == ()
    with pytest.raises(StoreError, match="holds no measured run abc"):
        recompute(pack, run="abc", model=str(model))


def test_the_stability_of_neurons_is_of_no_partition(laboratory):
    keys = {"model": "tiny", "reference_run_id": small_stores.OTHER_RUN, "family": "f", "function": "g", "n_units": 4}
    rows = [{"run_id": small_stores.RUN, "partition_id": name, **keys} for name in ("*", small_stores.PARTITION)]
    small_stores.commit(laboratory, "stability", "stability", {"stabilities": rows})
    assert not [each.what for each in verify_store(laboratory).problems if "partition_id" in each.what]
