"""Packs: the same bytes each time, closed slices, no text where none is to be passed on."""

import json

import pyarrow.parquet as pq
import pytest
from sharing.conftest import SECRET

from neuronlake.errors import QueryError, StoreError
from neuronlake.queries.database import Database
from neuronlake.queries.status import check_store
from neuronlake.sharing.jobs import Inventory
from neuronlake.sharing.pack import pack_store

pytestmark = pytest.mark.long
QUERIES = (
    "from runs order by all",
    "from specialization order by all",
    "from best_predictivity order by all",
    "from top_neurons order by all",
    "from control_functions order by all",
    "from coverage order by all",
)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_pack_is_the_same_bytes_and_a_store(measured, tmp_path):
    first = pack_store(measured.path, tmp_path / "first")
    pack_store(measured.path, tmp_path / "second")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert check_store(first.path).problems == ()
    assert (len(first.run_ids), first.n_jobs) == (2, 5)
    commits = json.loads((first.path / "commits.json").read_text())
    assert {commit["job"] for commit in commits} == {commit.job for commit in measured.commits()}


def test_a_slice_answers_as_the_store_asked_about_its_runs(measured, tmp_path):
    report = pack_store(measured.path, tmp_path / "pack", where="is_random_init")
    assert report.n_jobs == 3  # the corpus, the run and its controls
    (run_id,) = report.run_ids
    with Database(report.path) as packed, Database(measured) as whole:
        for query in QUERIES:
            asked = f"from ({query}) where run_id = '{run_id}' order by all"
            assert packed.sql(query).rows() == whole.sql(asked).rows() != []
    again = pack_store(report.path, tmp_path / "again")
    assert contents(report.path) == contents(again.path)


def test_without_texts_no_file_holds_one(measured, tmp_path):
    report = pack_store(measured.path, tmp_path / "pack", with_texts=False)
    assert check_store(report.path).problems == ()
    for path in report.path.rglob("*"):
        if path.suffix == ".parquet":
            texts = [value for column in pq.read_table(path, partitioning=None).columns for value in column.to_pylist()]
            assert not [value for value in texts if SECRET in str(value).lower()], path
        elif path.is_file():
            assert SECRET.encode() not in path.read_bytes().lower()
    with Database(report.path) as packed, Database(measured) as whole:
        assert packed.sql("select count(text), count(*) from texts").rows() == [(0, 40)]
        query = "select corpus_sha256 from corpora union all select corpus_sha256 from runs"
        assert packed.sql(query).rows() == whole.sql(query).rows()
        assert packed.sql(QUERIES[1]).rows() == whole.sql(QUERIES[1]).rows()
    again = pack_store(report.path, tmp_path / "again", with_texts=False)
    assert (again.n_files, again.size_bytes) == (report.n_files, report.size_bytes)


def test_what_cannot_be_packed_is_refused_and_nothing_is_left(measured, tmp_path):
    (tmp_path / "there").mkdir()
    for folder, options, error, message in (
        ("there", {}, StoreError, "it exists"),
        ("pack", {"model": "gpt"}, StoreError, "no run of .* fits model = 'gpt'"),
        ("pack", {"where": "no_column = 1"}, QueryError, "no_column"),
    ):
        with pytest.raises(error, match=message):
            pack_store(measured.path, tmp_path / folder, **options)
    with pytest.raises(StoreError, match="there holds nothing to pack"):
        pack_store(tmp_path / "there", tmp_path / "pack")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_jobs_know_what_depends_on_them(measured):
    every = Inventory(measured)
    by_kind = {kind: [job for job in every.jobs if job.commit.kind == kind] for kind in ("corpus", "run", "controls")}
    assert len(every.dependents(by_kind["corpus"])) == 4
    (first, _) = by_kind["run"]
    assert [job.commit.kind for job in every.dependents([first])] == ["controls"]


def test_the_card_and_the_croissant_name_every_file(measured, tmp_path):
    report = pack_store(measured.path, tmp_path / "pack")
    described = json.loads((report.path / "croissant.json").read_text())
    files = {entry["@id"]: entry["sha256"] for entry in described["distribution"] if entry["@type"] == "cr:FileObject"}
    assert files == {file.path: file.sha256 for commit in measured.commits() for file in commit.files}
    card = (report.path / "README.md").read_text()
    for line in ('- "tiny-bert"', "Licences of the corpora: CC0", "neuronlake share verify", "size_categories:"):
        assert line in card
