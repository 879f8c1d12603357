"""Several stores read as one: the rows of their merge, of each job one copy, and nothing is written."""

import shutil

import pytest
from click.testing import CliRunner
from serving import serving

from neuronlake.cli import main
from neuronlake.errors import StoreError
from neuronlake.queries.database import Database
from neuronlake.schema.stores.union import open_store
from neuronlake.sharing.jobs import list_jobs, list_runs
from neuronlake.sharing.merging import merge_stores
from neuronlake.sharing.pack import pack_store

QUERIES = (
    "from runs order by all",
    "from corpora order by all",
    "from neuron_functions order by all",
    "from run_functions order by all",
    "from specialization order by all",
    "from best_predictivity order by all",
    "from top_neurons order by all",
    "from top_neurons_by('predictivity') order by all",
    "from coverage order by all",
    "select count(*) from experts join partitions using (partition_id)",
)


@pytest.fixture
def three(laboratory, tmp_path, make):
    """Return a laboratory, another that made one of its runs too, and a pack of a third in one file."""
    make["corpus"](tmp_path / "b")
    make["run"](tmp_path / "b", device="cuda", shift=1e-5)
    make["run"](tmp_path / "c", "aa33")
    pack_store(tmp_path / "c", tmp_path / "c.zip")
    return [laboratory, tmp_path / "b", tmp_path / "c.zip"]


def test_several_stores_answer_as_their_merge_in_any_order(three, tmp_path):
    merge_stores(three, into=tmp_path / "merged")
    with Database(tmp_path / "merged") as merged:
        expected = [merged.sql(query).rows() for query in QUERIES]
    assert len(expected[0]) == 3
    for stores in (three, three[::-1]):
        with Database(stores) as union:
            assert [union.sql(query).rows() for query in QUERIES] == expected
            assert [*union.store.several] == ["aa11"]
            assert {row["is_materialized"] for row in union.describe_views()} == {False}


def test_folders_files_and_urls_mix(three, tmp_path):
    pack_store(three[1], tmp_path / "pack")
    pack_store(three[0], tmp_path / "other")
    with serving(tmp_path / "pack") as b, serving(tmp_path / "other") as a:
        with Database([a.url, b.url, three[2]]) as mixed, Database(three) as local:
            for query in QUERIES:
                assert mixed.sql(query).rows() == local.sql(query).rows()
        assert [row["run_id"] for row in list_runs([a.url, three[2]])] == ["aa11", "aa22", "aa33"]
    assert len(list_jobs(three)) == 7


def test_a_corpus_that_is_another_in_one_of_them_is_refused_and_both_are_named(laboratory, tmp_path, make):
    make["corpus"](tmp_path / "b", digest="d2")
    with pytest.raises(StoreError, match=r"corpus 'words' is another in .*laboratory .* than in .*/b"):
        Database([laboratory, tmp_path / "b"])


def test_one_that_is_no_store_is_named(laboratory, tmp_path):
    with pytest.raises(StoreError, match=r"no store at .*nowhere"):
        Database([laboratory, tmp_path / "nowhere"])
    assert not open_store([laboratory]).is_read_only


def test_commands_that_read_take_several_and_those_that_write_refuse_them(three):
    stores = [word for store in three for word in ("--store", str(store))]

    def run(*arguments):
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    asked = run(*stores, "sql", "select run_id from runs order by all", "--format", "csv")
    assert asked.output.endswith("run_id\naa11\naa22\naa33\n")
    assert asked.stderr.startswith("aa11 stands in several stores with other bytes: that of ")
    assert run("sql", "select count(*) as n from runs", "--format", "csv", *stores).output.endswith("n\n3\n")
    assert run(*stores, "share", "verify").exit_code in (0, 1)
    for command in (("materialize",), ("remove", "aa11"), ("check",), ("share", "push", "s3://x/y")):
        refused = run(*stores, *command)
        assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
        assert "c.zip are only read as one; 'share merge' makes them one" in refused.output
    refused = run(*stores, "tables", "--sql")
    assert "is no folder nor URL" in refused.output.splitlines()[-1]


def test_several_are_packed_as_one(three, tmp_path):
    report = pack_store(three, tmp_path / "pack")
    assert report.run_ids == ("aa11", "aa22", "aa33")
    shutil.rmtree(three[0])
    with Database(report.path) as packed:
        assert packed.sql("select count(*) from runs").rows() == [(3,)]
