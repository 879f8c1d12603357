"""Pushing and pulling: only what is missing travels, nothing is replaced, and two that push at once lose nothing."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from serving import object_store, serving
from sharing import small_stores

from neuronlake.errors import StoreError
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store
from neuronlake.sharing.pack import pack_store
from neuronlake.sharing.transfer import pull_store, push_store

pytestmark = pytest.mark.long


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Serve a bucket; yield its folder, its URL and what was asked."""
    (tmp_path / "s3" / "lab").mkdir(parents=True)
    with object_store(tmp_path / "s3") as served:
        settings = {"ENDPOINT_URL": served.url, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1"}
        for name, value in {**settings, "ALLOW_HTTP": "true"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield SimpleNamespace(folder=tmp_path / "s3" / "lab" / "neurons", url="s3://lab/neurons", served=served)


@pytest.fixture
def slices(measured, tmp_path):
    """Return two packs, of the weights and of the random initialisation, with the corpus in both."""
    conditions = {"trained": "not is_random_init", "random": "is_random_init"}
    return [pack_store(measured.path, tmp_path / name, where=where).path for name, where in conditions.items()]


def data_of(folder):
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if name.parts[0] in ("data", "commits")}


def test_what_is_pushed_and_pulled_is_the_same_byte_by_byte(measured, bucket, tmp_path):
    report = push_store(measured.path, bucket.url)
    assert (report.n_jobs, report.n_known) == (5, 0)
    pulled = pull_store(bucket.url, tmp_path / "pulled")
    assert (pulled.n_jobs, pulled.size_bytes) == (5, report.size_bytes)
    assert data_of(tmp_path / "pulled") == data_of(measured.path)
    assert Store(tmp_path / "pulled").check() == ()
    bucket.served.requests.clear()
    assert push_store(tmp_path / "pulled", bucket.url).n_jobs == pull_store(bucket.url, tmp_path / "pulled").n_jobs == 0
    assert not [request for request in bucket.served.requests if request[0] == "PUT"]
    with Database(bucket.url) as remote, Database(measured) as local:
        query = "from specialization order by all"
        assert remote.sql(query).rows() == local.sql(query).rows()


def test_what_is_pulled_is_a_folder_and_no_file(measured, tmp_path):
    with pytest.raises(
        StoreError, match=r"new\.zip: what is pulled is a folder, and 'share pack' makes one file of it"
    ):
        pull_store(measured.path, tmp_path / "new.zip")
    assert not (tmp_path / "new.zip").exists()


def test_two_that_push_at_once_lose_nothing(measured, bucket, slices):
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda folder: push_store(folder, bucket.url), slices))
    assert sum(report.n_jobs for report in reports) in (5, 6)  # the corpus is in both
    assert data_of(bucket.folder) == data_of(measured.path)


def test_a_push_that_was_stopped_goes_on(measured, bucket, monkeypatch):
    import obstore

    put, written = obstore.put, []

    def stop_at_the_seventh(*arguments, **options):
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(arguments[1])
        return put(*arguments, **options)

    monkeypatch.setattr(obstore, "put", stop_at_the_seventh)
    with pytest.raises(KeyboardInterrupt):
        push_store(measured.path, bucket.url)
    monkeypatch.setattr(obstore, "put", put)
    with Database(bucket.url) as remote:  # whole jobs, or none
        assert len(remote.sql("from runs").rows()) == 0
    push_store(measured.path, bucket.url)
    assert data_of(bucket.folder) == data_of(measured.path)


def test_a_job_or_file_of_other_content_is_refused_and_stays(measured, bucket, slices, tmp_path):
    push_store(slices[0], bucket.url)
    before = data_of(bucket.folder)
    commit = next((bucket.folder / "commits").glob("corpus-*"))
    fields = json.loads(commit.read_text())
    fields["files"][0]["sha256"] = "0" * 64
    commit.write_text(json.dumps(fields))
    for carry in (lambda: push_store(measured.path, bucket.url), lambda: pull_store(bucket.url, slices[0])):
        with pytest.raises(StoreError, match=r"job corpus-words of .* is another than that of"):
            carry()
    commit.unlink()
    file = next((bucket.folder / "data" / "corpora").rglob("*.parquet"))
    file.write_bytes(b"other")
    with pytest.raises(StoreError, match="is there with other content"):
        push_store(slices[0], bucket.url)
    assert file.read_bytes() == b"other"
    assert {name: data for name, data in before.items() if "corpora" not in name.parts[1] and name.parts[0] == "data"}
    damaged = shutil.copytree(slices[1], tmp_path / "damaged")
    next((damaged / "data" / "runs").rglob("*.parquet")).write_bytes(b"x")
    with serving(damaged) as served, pytest.raises(StoreError):
        pull_store(served.url, tmp_path / "half")
    assert [commit.kind for commit in Store(tmp_path / "half").commits()] == ["corpus"]
    with pytest.raises(StoreError, match="s3:// and hf://datasets/ can be written to"):
        push_store(slices[0], "http://127.0.0.1:1/store")


def test_a_push_to_the_hub_is_one_commit_upon_the_one_it_read(measured, slices, tmp_path, monkeypatch):
    """The Hub is a fake of the three calls used: `hf_hub_url`, `dataset_info` and `create_commit`."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    folder = tmp_path / "hub"
    folder.mkdir()
    heads = ["first"]

    class Api:
        def dataset_info(self, repository, *, revision):
            assert (repository, revision) == ("us/neurons", None)
            files = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
            return SimpleNamespace(sha=heads[-1], siblings=[SimpleNamespace(rfilename=name) for name in files])

        def create_commit(self, repository, operations, *, repo_type, revision, parent_commit, commit_message):
            if len(heads) == 1:  # another was first
                heads.append("other")
                raise HfHubHTTPError("conflict", response=SimpleNamespace(status_code=412, headers={}, request=None))
            assert (repo_type, parent_commit) == ("dataset", heads[-1])
            for operation in operations:
                path = folder / operation.path_in_repo
                path.parent.mkdir(parents=True, exist_ok=True)
                with operation.as_file() as file:
                    path.write_bytes(file.read())
            heads.append(f"{len(heads)}")

    with serving(folder, prefix="/hub") as served:
        monkeypatch.setattr(huggingface_hub, "HfApi", Api)
        monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda _, name, **__: f"{served.url}/{name}")
        assert push_store(slices[0], "hf://datasets/us/neurons").n_jobs == 3
        assert push_store(measured.path, "hf://datasets/us/neurons").n_jobs == 2
        assert len(heads) == 4
        pull_store("hf://datasets/us/neurons", tmp_path / "pulled")
        (folder / "commits.json").unlink()
        with pytest.raises(StoreError, match=r"holds commits without commits\.json"):
            push_store(measured.path, "hf://datasets/us/neurons")
    assert data_of(tmp_path / "pulled") == data_of(measured.path)
    assert "## specialization" not in (folder / "README.md").read_text()
    assert "config_name: runs" in (folder / "README.md").read_text()


def test_a_hub_that_is_not_reached_is_one_line(measured, monkeypatch):
    import huggingface_hub

    client = huggingface_hub.HfApi(endpoint="http://127.0.0.1:1")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: client)
    with pytest.raises(StoreError, match=r"cannot write hf://datasets/us/neurons: "):
        push_store(measured.path, "hf://datasets/us/neurons")


def test_what_an_interrupted_pull_left_is_no_part_of_the_same_job_made_here(measured, tmp_path, monkeypatch):
    run = next(commit for commit in measured.commits() if commit.kind == "run")
    copy = Store.copy

    def interrupted(self, file, target):
        copy(self, file, target)
        if file.table == "neuron_functions":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "copy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pull_store(measured.path, tmp_path / "half")
    with Store(tmp_path / "half").job(run.job, kind="run") as job:
        assert job.is_empty


def test_a_job_made_without_locks_is_the_same_under_other_names(tmp_path, monkeypatch):
    for name, setting in (("a", "on"), ("b", "off")):
        monkeypatch.setenv("NEURONLAKE_LOCKS", setting)
        small_stores.add_corpus(tmp_path / name)
    names = [{file.path for commit in Store(tmp_path / name).commits() for file in commit.files} for name in "ab"]
    assert not names[0] & names[1]
    assert pull_store(tmp_path / "a", tmp_path / "b").n_known == 1
