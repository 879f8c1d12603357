"""Staging, commits, refusals and the integrity check."""

import json
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuronlake.errors import SchemaError, StoreError, UnknownNameError
from neuronlake.schema import card, disk, leftovers
from neuronlake.schema.leftovers import Problem
from neuronlake.schema.store import Store
from neuronlake.schema.tables import SCHEMA_VERSION


def commit_experts(store, rows, name="j"):
    with store.job(name, kind="partition") as job:
        job.write("experts", rows)
        return job.commit()


def test_a_store_that_is_not_there_yet_is_empty(store):
    assert store.commits() == ()
    assert store.commit("j") is None
    assert store.files("experts") == ()
    assert store.check() == ()
    assert not store.path.exists()


def test_what_is_staged_is_invisible_until_the_commit(store, experts):
    with store.job("j", kind="partition") as job:
        job.write("experts", experts())
        assert store.commits() == ()
        assert store.files("experts") == ()
        assert not (store.path / "data").exists()
        commit = job.commit()
    assert store.commits() == (commit,)
    assert [path.name for path in store.files("experts")] == ["j-0.parquet"]


def test_a_commit_says_what_it_holds(store, experts):
    commit = commit_experts(store, experts(5))
    (file,) = commit.files
    path = store.path / "data/experts/j-0.parquet"
    assert (file.path, file.table, file.n_rows) == ("data/experts/j-0.parquet", "experts", 5)
    assert file.size_bytes == path.stat().st_size
    assert (commit.job, commit.kind, commit.schema_version) == ("j", "partition", SCHEMA_VERSION)
    assert store.commit("j") == commit


def test_files_of_a_model_lie_in_its_folders(store, neurons):
    with store.job("r", kind="run") as job:
        job.write("neurons", neurons(), model="google/switch-base", revision="step 3/α")
        job.commit()
    (path,) = store.files("neurons")
    assert path == store.path.absolute() / "data/neurons/google--switch-base/step 3--%CE%B1/r-0.parquet"


def test_nothing_is_left_in_staging_after_a_commit(store, experts):
    commit_experts(store, experts())
    assert list((store.path / ".staging").glob("*/")) == []


def test_commits_come_oldest_first_and_files_can_be_asked_of_one_job(store, experts):
    for name in ("z", "a", "m"):
        commit_experts(store, experts(partition_id=name), name)
    assert [commit.job for commit in store.commits()] == ["z", "a", "m"]
    assert [path.name for path in store.files("experts")] == ["z-0.parquet", "a-0.parquet", "m-0.parquet"]
    assert [path.name for path in store.files("experts", job="a")] == ["a-0.parquet"]
    assert store.files("experts", job="absent") == ()


def test_files_are_absolute_from_a_relative_store(tmp_path, experts, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("here")
    commit_experts(store, experts())
    assert store.files("experts") == (tmp_path / "here/data/experts/j-0.parquet",)


def test_files_of_many_parts_come_in_the_order_of_the_parts(store, experts):
    with store.job("j", kind="partition") as job:
        for part in range(12):
            job.write("experts", experts(1, layer=part), part=part)
        job.commit()
    layers = [pq.read_table(path, partitioning=None)["layer"][0].as_py() for path in store.files("experts")]
    assert layers == list(range(12))


def test_a_table_that_is_not_declared_is_refused(store):
    with pytest.raises(UnknownNameError, match="no table 'expert'; did you mean 'experts'"):
        store.files("expert")
    with store.job("j", kind="partition") as job, pytest.raises(UnknownNameError):
        job.write("expert", pa.table({"a": [1]}))


def test_rows_that_do_not_conform_are_not_staged(store, experts):
    with store.job("j", kind="partition") as job:
        with pytest.raises(SchemaError):
            job.write("experts", experts().drop_columns("expert"))
        assert not job.is_staged("experts", 0)
    assert list(store.path.rglob("*.parquet")) == []


def test_a_part_that_is_written_again_replaces_the_first(store, experts):
    with store.job("j", kind="partition") as job:
        job.write("experts", experts(5))
        job.write("experts", experts(2))
        commit = job.commit()
    assert [file.n_rows for file in commit.files] == [2]


def test_a_committed_job_is_refused(store, experts):
    commit_experts(store, experts())
    with pytest.raises(StoreError, match=r"^j is already committed in "), store.job("j", kind="partition"):
        pass
    assert list((store.path / ".staging").glob("*/")) == []


def test_a_failed_job_goes_on_from_its_staged_parts(store, experts):
    with pytest.raises(KeyError), store.job("j", kind="partition") as job:  # noqa: PT012
        job.write("experts", experts(layer=0), part=0)
        raise KeyError
    assert store.commits() == ()
    with store.job("j", kind="partition") as job:
        assert (job.is_staged("experts", 0), job.is_staged("experts", 1)) == (True, False)
        job.write("experts", experts(layer=1), part=1)
        commit = job.commit()
    assert [file.n_rows for file in commit.files] == [3, 3]


def test_part_1_is_not_taken_for_part_11(store, experts):
    with store.job("j-1", kind="partition") as job:
        job.write("experts", experts(layer=1), part=11)
        assert not job.is_staged("experts", 1)
        assert not job.is_staged("neurons", 11)


def test_a_failed_job_that_cannot_be_resumed_leaves_nothing(store, experts):
    with pytest.raises(KeyError), store.job("j", kind="corpus", resume=False) as job:  # noqa: PT012
        job.write("experts", experts())
        raise KeyError
    assert not store.path.exists()


def test_a_failed_job_that_cannot_be_resumed_leaves_the_rest_of_the_store(store, experts):
    commit_experts(store, experts(), "kept")
    before = sorted(path for path in store.path.rglob("*") if path.is_file())
    with pytest.raises(KeyError), store.job("j", kind="corpus", resume=False) as job:  # noqa: PT012
        job.write("experts", experts(partition_id="q"))
        raise KeyError
    assert sorted(path for path in store.path.rglob("*") if path.is_file()) == before


def test_parts_another_version_staged_are_dropped(store, experts, monkeypatch):
    with store.job("j", kind="partition") as job:
        job.write("experts", experts())
    monkeypatch.setattr(leftovers, "neuronlake_version", lambda: "99.0")
    with store.job("j", kind="partition") as job:
        assert not job.is_staged("experts", 0)


def test_a_newer_schema_is_refused_with_advice(store, experts):
    commit_experts(store, experts())
    file = store.path / "commits/j.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": SCHEMA_VERSION + 1}))
    for ask in (store.commits, lambda: store.commit("j"), lambda: store.files("experts"), store.check):
        with pytest.raises(StoreError, match=rf"schema version {SCHEMA_VERSION + 1}, .* please upgrade neuronlake"):
            ask()


def test_a_newer_schema_whose_commits_say_more_is_refused_with_advice(store, experts):
    commit_experts(store, experts())
    file = store.path / "commits/j.json"
    newer = {"schema_version": SCHEMA_VERSION + 1, "author": "someone"}
    file.write_text(json.dumps(json.loads(file.read_text()) | newer))
    with pytest.raises(StoreError, match="please upgrade neuronlake"):
        store.commits()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"job": "j"}',
        '{"files": 3}',
        b"\xff\xfe",
        '{"job":"j","kind":"k","schema_version":"1","neuronlake_version":"0","committed_at":"","files":[]}',
        '{"job":"j","kind":"k","schema_version":null,"neuronlake_version":"0","committed_at":"","files":[]}',
        '{"job":"j","kind":"k","schema_version":1,"neuronlake_version":"0","committed_at":"","files":[{"path":"x"}]}',
    ],
)
def test_a_corrupt_commit_is_named(store, experts, content):
    commit_experts(store, experts())
    file = store.path / "commits/j.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for ask in (store.commits, lambda: store.commit("j")):
        with pytest.raises(StoreError, match=r"commits/j\.json") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file")
    with pytest.raises(StoreError, match="file is not a folder"):
        store.commits()
    with pytest.raises(StoreError, match=r"cannot write the store .*file: "), store.job("j", kind="run"):
        pass


def test_a_store_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match=r"cannot write the store .*: Not a dir"), store.job("j", kind="run"):
        pass


def test_a_disk_that_refuses_while_staging_is_one_clear_line(store, experts, monkeypatch):
    def refuse(path):
        raise OSError(28, "No space left on device")

    with store.job("j", kind="partition") as job:
        monkeypatch.setattr(disk, "sync", refuse)
        with pytest.raises(StoreError, match=r"^cannot write .*j-0\.parquet: No space left on device$"):
            job.write("experts", experts())
        assert not job.is_staged("experts", 0)


def test_a_data_folder_that_cannot_be_made_fails_the_commit_and_nothing_becomes_visible(store, experts):
    store.path.mkdir()
    (store.path / "data").write_text("in the way")
    with pytest.raises(StoreError, match=r"^cannot write the store "), store.job("j", kind="partition") as job:  # noqa: PT012
        job.write("experts", experts())
        job.commit()
    assert store.commits() == ()
    (store.path / "data").unlink()
    with store.job("j", kind="partition") as job:
        assert job.is_staged("experts", 0)
        job.commit()
    assert len(store.commits()) == 1


def test_a_commit_that_raises_has_made_nothing_visible(store, experts):
    (store.path / "README.md").mkdir(parents=True)
    (store.path / "README.md" / "in the way").touch()
    with pytest.raises(StoreError), store.job("j", kind="partition") as job:  # noqa: PT012
        job.write("experts", experts())
        job.commit()
    assert store.commits() == ()


def test_a_sound_store_has_no_problems(store, experts, neurons):
    commit_experts(store, experts())
    with store.job("r", kind="run") as job:
        job.write("neurons", neurons(), model="m", revision="main")
        job.commit()
    assert store.check() == ()


def test_the_check_finds_what_is_missing_altered_and_stray(store, experts):
    for name in ("missing", "altered", "cut", "sound"):
        commit_experts(store, experts(partition_id=name), name)
    folder = store.path / "data/experts"
    (folder / "missing-0.parquet").unlink()
    content = bytearray((folder / "altered-0.parquet").read_bytes())
    content[50] ^= 1
    (folder / "altered-0.parquet").write_bytes(content)
    (folder / "cut-0.parquet").write_bytes((folder / "cut-0.parquet").read_bytes()[:-1])
    (folder / "stray").mkdir()
    (folder / "stray" / "stray.parquet").touch()
    altered = "altered since it was committed (size or sha256 differs)"
    assert set(store.check()) == {
        Problem("data/experts/missing-0.parquet", "missing"),
        Problem("data/experts/altered-0.parquet", altered),
        Problem("data/experts/cut-0.parquet", altered),
        Problem("data/experts/stray/stray.parquet", "in no commit, and so invisible to queries"),
    }


def test_the_card_shows_what_a_job_beside_this_one_committed_meanwhile(store, experts, neurons, monkeypatch):
    written = card.text
    threads = []

    def commit_beside():
        with store.job("beside", kind="run") as job:
            job.write("neurons", neurons(), model="m", revision="main")
            job.commit()

    def text(commits):
        if not threads:
            # While this card is being written, another job goes as far as it can.
            threads.append(threading.Thread(target=commit_beside, daemon=True))
            threads[0].start()
            threads[0].join(timeout=0.3)
        return written(commits)

    monkeypatch.setattr(card, "text", text)
    commit_experts(store, experts())
    threads[0].join(timeout=30)
    assert {commit.job for commit in store.commits()} == {"j", "beside"}
    readme = (store.path / "README.md").read_text()
    assert "config_name: experts" in readme
    assert "config_name: neurons" in readme


def test_metadata_files_do_not_lie_under_data(store, experts):
    commit_experts(store, experts())
    assert {path.suffix for path in Path(store.path / "data").rglob("*") if path.is_file()} == {".parquet"}
