"""A store at a URL: the same answers by few requests, nothing written, and one line where something is wrong."""

import json
import shutil

import pytest
from click.testing import CliRunner
from serving import serving

from neuronlake.cli import main
from neuronlake.errors import QueryError, StoreError
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store
from neuronlake.sharing.pack import pack_store

pytestmark = pytest.mark.long
QUERIES = (
    "select run_id, model, revision from runs order by all",
    "from specialization order by all",
    "from top_neurons_by('predictivity') order by all",
    "select avg(ap) from neuron_functions where layer = 1",
    "select text from texts order by text_id limit 3",
)


@pytest.fixture(scope="module")
def packed(measured, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "pack"
    pack_store(measured.path, folder)
    return folder


@pytest.fixture
def pack(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "pack")


def test_a_store_at_a_url_answers_as_its_folder(packed, measured):
    with serving(packed) as served, Database(served.url) as remote, Database(measured) as local:
        for query in QUERIES:
            assert remote.sql(query).rows() == local.sql(query).rows()
        assert {method for method, *_ in served.requests} == {"GET"}
        served.requests.clear()
        assert remote.sql(QUERIES[0]).rows() == local.sql(QUERIES[0]).rows()
        assert served.requests == []
        assert served.url in remote.script()
        assert {row["not_read_because"] for row in remote.describe_views()} == {None}


def test_the_commands_that_ask_take_a_url_and_those_that_write_refuse_it(packed):
    with serving(packed) as served:

        def run(*arguments):
            return CliRunner().invoke(main, ["--store", served.url, *arguments], catch_exceptions=False)

        assert "tiny-bert" in run("sql", "select distinct model from runs").output
        assert "neuron 3" in run("describe", "neuron", "tiny-bert", "--layer", "0", "--neuron", "3").output
        for command in (("materialize",), ("corpus", "build", "countries", "--name", "x"), ("check",)):
            refused = run(*command)
            assert refused.exit_code == 1
            assert refused.output.splitlines()[-1] == f"Error: {served.url} is at a URL, where a store is only read"
        assert "tiny-bert" in run("runs").output
    with pytest.raises(StoreError, match="is at a URL, where a store is only read"):
        Store("https://example.org/store")


def test_no_job_begins_at_a_url_nor_in_a_folder_of_its_name(packed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = pytest.raises(StoreError, match=r"is only read: a* cannot be added to it")
    with serving(packed) as served, Database(served.url) as database, refused:
        database.store.job("a" * 16, kind="alignment")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["http://[::1/x", "s3://a bucket/x"])
def test_a_url_that_is_none_is_one_line(url):
    with pytest.raises(StoreError, match=r"cannot read .*invalid"):
        Database(url)


def test_nothing_can_be_written_and_nothing_else_be_read(packed):
    with serving(packed) as served, Database(served.url) as remote:
        with pytest.raises(QueryError, match="copy is refused"):
            remote.sql(f"copy (select 1) to '{served.url}/data/x.parquet'")
        with pytest.raises(StoreError, match="No files found that match the pattern"):
            remote.sql(f"from read_parquet('{served.url}/data/other.parquet')").rows()
        with pytest.raises(StoreError, match="cannot read http"):
            remote.sql("from read_parquet('http://127.0.0.1:1/data/x.parquet')").rows()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot read the commits"),
        ('{"a": 1}', "Expected `array`, got `object`"),
        ("[1]", "Expected `object`, got `int`"),
        (None, "cannot read .*commits.json"),
    ],
)
def test_an_index_that_is_none_is_one_line(pack, text, reason):
    (pack / "commits.json").unlink() if text is None else (pack / "commits.json").write_text(text)
    with serving(pack) as served, pytest.raises(StoreError, match=reason) as error:
        Database(served.url)
    assert "\n" not in str(error.value)


def test_a_path_that_leads_out_of_the_store_is_refused(pack):
    commits = json.loads((pack / "commits.json").read_text())
    commits[0]["files"][0]["path"] = "data/../../secret.parquet"
    (pack / "commits.json").write_text(json.dumps(commits))
    with serving(pack) as served, pytest.raises(StoreError, match="is no place for rows"):
        Database(served.url)


def test_files_that_are_cut_or_gone_are_one_line(pack):
    for file in pack.glob("data/runs/**/*.parquet"):
        file.write_bytes(file.read_bytes()[:100])
    for file in pack.glob("data/layers/**/*.parquet"):
        file.unlink()
    with serving(pack) as served, Database(served.url) as remote:
        for table in ("runs", "layers"):
            with pytest.raises(StoreError, match=f"cannot read {served.url}") as error:
                remote.sql(f"from {table}").rows()
            assert "\n" not in str(error.value)


def test_a_dataset_of_the_hub_is_read_by_its_address(packed, measured, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    with serving(packed, prefix="/datasets/us/neurons/resolve/main") as served:
        endpoint = served.url.removesuffix("/datasets/us/neurons/resolve/main")
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        with Database("hf://datasets/us/neurons") as remote, Database(measured) as local:
            assert remote.sql(QUERIES[1]).rows() == local.sql(QUERIES[1]).rows()
    with pytest.raises(StoreError, match="is no dataset repository"):
        Database("hf://models/us/neurons")
    with pytest.raises(StoreError, match="a store is a folder, or at http"):
        Database("ftp://example.org/store")
