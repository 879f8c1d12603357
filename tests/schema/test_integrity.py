"""What `check` finds by reading, and what `repair` removes. Hundreds of altered files: see test_mutants.py."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuronlake.schema import disk, leftovers
from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.leftovers import Problem
from neuronlake.schema.names import file_sha256
from neuronlake.schema.store import Store
from neuronlake.schema.tables import SCHEMA_VERSION, table


def commit_experts(store, rows, name="j"):
    with store.job(name, kind="partition") as job:
        job.write("experts", rows, model="m")
        job.commit()


def rewrite(store, change, name="j", schema_version=SCHEMA_VERSION):
    """Write the rows of a job anew, with all that its commit and the file itself say of them."""
    (path,) = store.files("experts", job=name)
    described = pq.read_metadata(path).metadata | {b"schema_version": str(schema_version).encode()}
    rows = change(pq.read_table(path, partitioning=None))
    with pq.ParquetWriter(path, rows.schema, store_schema=False) as writer:
        writer.add_key_value_metadata({key.decode(): value.decode() for key, value in described.items()})
        writer.write_table(rows)
    commit = store.path / f"commits/{name}.json"
    content = json.loads(commit.read_text()) | {"schema_version": schema_version}
    content["files"][0].update(size_bytes=path.stat().st_size, sha256=file_sha256(path), n_rows=rows.num_rows)
    commit.write_text(json.dumps(content))


def whats(store):
    return [problem.what for problem in store.check()]


def test_a_key_that_two_files_hold_is_found(store, experts):
    commit_experts(store, experts(partition_id="p"), "j")
    commit_experts(store, experts(partition_id="q"), "k")
    assert store.check() == ()
    rewrite(store, lambda rows: experts(partition_id="p"), "k")
    assert store.check() == (
        Problem(
            "data/experts/m/j-0.parquet",
            "together with data/experts/m/k-0.parquet: table experts: row 3 repeats the key partition_id='p', "
            "stack='encoder', layer=0, neuron=0",
        ),
    )


def test_files_whose_bounds_overlap_without_a_key_in_common_are_sound(store, experts):
    commit_experts(store, experts(4), "j")
    rewrite(store, lambda rows: rows.take([0, 2]))
    commit_experts(store, experts(4), "k")
    rewrite(store, lambda rows: rows.take([1, 3]), "k")
    assert [problem.path for problem in store.check()] == ["README.md"]


def test_rows_of_an_older_schema_may_lack_what_was_declared_since(store, experts):
    commit_experts(store, experts())
    rewrite(store, lambda rows: rows.drop_columns("expert"))
    assert whats(store) == [
        "table experts: columns missing ['expert'], not declared []; "
        "declared: partition_id, stack, layer, neuron, expert"
    ]
    rewrite(store, lambda rows: rows, schema_version=1)
    assert store.check() == ()


def test_a_text_that_is_no_utf_8_is_found(store, experts):
    commit_experts(store, experts())
    broken = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"\xff\xfe\xfd")]
    )
    rewrite(store, lambda rows: rows.set_column(0, "partition_id", broken))
    (what,) = whats(store)
    assert what.startswith("cannot be read: ")


def test_a_card_of_other_commits_is_found_and_written_anew(store, experts, tmp_path):
    commit_experts(store, experts(), "j")
    other = Store(tmp_path / "other")
    commit_experts(other, experts(partition_id="q"), "k")
    for file in ("commits/k.json", "data/experts/m/k-0.parquet"):
        (store.path / file).write_bytes((other.path / file).read_bytes())
    assert [problem.path for problem in store.check()] == ["README.md"]
    assert store.repair() == (Problem("README.md", "written anew from the commits"),)
    assert store.check() == ()
    assert "6 rows, one for each" in (store.path / "README.md").read_text()
    assert store.repair() == ()


def test_what_is_committed_while_check_reads_is_no_problem(store, experts, monkeypatch):
    commit_experts(store, experts())

    def read(path):
        monkeypatch.undo()
        commit_experts(store, experts(partition_id="q"), "k")
        return file_sha256(path)

    monkeypatch.setattr("neuronlake.schema.integrity.file_sha256", read)
    assert store.check() == ()
    assert len(store.commits()) == 2


def test_a_link_below_data_is_a_problem_and_what_it_leads_to_is_not_looked_into(store, experts, tmp_path):
    commit_experts(store, experts())
    (store.path / "data/elsewhere").symlink_to(tmp_path)
    assert [(each.path, each.what) for each in store.check()] == [
        ("data/elsewhere", "in no commit, and so invisible to queries")
    ]


def test_repair_touches_nothing_that_a_killed_job_is_not_proven_to_have_left(store, experts):
    commit_experts(store, experts())
    strays = ("data/experts/k-0.parquet", "data/experts/m/.DS_Store", "data/j-0.csv", ".staging/mine/notes.txt")
    for stray in strays:
        (store.path / stray).parent.mkdir(exist_ok=True)
        (store.path / stray).touch()
    assert store.repair() == ()
    assert all((store.path / stray).exists() for stray in strays)
    assert len(store.check()) == 3


def test_repair_removes_a_file_of_a_committed_job_that_its_commit_does_not_name(store, experts):
    commit_experts(store, experts())
    stray = store.path / "data/experts/m/j-7.parquet"
    stray.touch()
    assert store.repair() == (Problem("data/experts/m/j-7.parquet", "removed: left by a job that was killed"),)
    assert store.check() == ()


def killed_in_its_commit(store, rows, monkeypatch, *, resume):
    """Leave what a job leaves that is killed after its files were moved."""
    with monkeypatch.context() as patch, pytest.raises(KeyError), store.job("j", kind="k", resume=resume) as job:  # noqa: PT012
        job.write("experts", rows, model="m")
        patch.setattr(leftovers, "remove", lambda store: ())
        patch.setattr(disk, "replace_text", lambda *_: {}["killed"])
        job.commit()


def test_repair_gives_a_killed_job_its_parts_back(store, experts, monkeypatch):
    killed_in_its_commit(store, experts(), monkeypatch, resume=True)
    path = "data/experts/m/j-0.parquet"
    assert store.check() == (Problem(path, "in no commit, and so invisible to queries"),)
    assert store.unfinished() == {"j": "unfinished"}
    assert store.repair() == (Problem(path, "given back to its job, which is not committed"),)
    assert (store.check(), store.unfinished()) == ((), {"j": "unfinished"})
    with store.job("j", kind="k") as job:
        assert job.is_staged("experts", 0)
        job.commit()
    assert (store.check(), store.unfinished()) == ((), {})


def test_another_job_removes_what_a_killed_job_left_that_cannot_go_on(store, experts, monkeypatch):
    killed_in_its_commit(store, experts(), monkeypatch, resume=False)
    assert store.unfinished() == {"j": "garbage"}
    commit_experts(store, experts(partition_id="q"), "k")
    assert (store.check(), store.unfinished()) == ((), {})
    assert not (store.path / "data/experts/m/j-0.parquet").exists()


@pytest.mark.parametrize("resume", [True, False])
def test_a_job_that_fails_in_its_commit_leaves_nothing_in_the_way_of_readers(store, experts, monkeypatch, resume):
    with monkeypatch.context() as patch, pytest.raises(KeyError), store.job("j", kind="k", resume=resume) as job:  # noqa: PT012
        job.write("experts", experts(), model="m")
        patch.setattr(disk, "replace_text", lambda *_: {}["failed"])
        job.commit()
    assert (store.check(), store.unfinished()) == ((), {"j": "unfinished"} if resume else {})
    assert not list(store.path.glob("data/**/*.parquet"))


def test_a_job_that_runs_is_left_alone(store, experts):
    with store.job("j", kind="k", resume=False) as job:
        job.write("experts", experts())
        (store.path / "data/experts").mkdir(parents=True)
        os.link(store.staging / "j/experts/j-0.parquet", store.path / "data/experts/j-0.parquet")
        assert (store.repair(), store.check(), store.unfinished()) == ((), (), {"j": "running"})
        job.commit()
    assert len(store.files("experts")) == 1


def test_a_job_that_fails_before_it_has_done_anything_leaves_nothing(store):
    with pytest.raises(KeyError), store.job("j", kind="k"):
        raise KeyError
    assert not store.path.exists()


def test_every_new_folder_is_on_disk_before_something_is_put_in_it(store, experts, monkeypatch):
    synced = []
    monkeypatch.setattr(disk, "sync", lambda path: synced.append(path))
    commit_experts(store, experts())
    order = [path.relative_to(store.path.parent).as_posix() for path in synced if path.is_dir()]
    assert order[:2] == [".", "store"]  # the store and .staging are new
    after = order[order.index("store/data") :]
    assert after[:3] == ["store/data", "store/data/experts", "store/data/experts/m"]
    assert after[-1] == "store/commits"


def test_rows_of_another_run_than_the_file_says_are_a_problem(store):
    here, there = "a" * 16, "b" * 16
    row = {"model": "m", "revision": "main", "step": None, "stack": "encoder", "layer": 0, "n_neurons": 4}
    with store.job(here, kind="run") as job:
        rows = [{"run_id": there, **row}]
        schema = arrow_schema(table("layers"))
        job.write("layers", pa.Table.from_pylist(rows, schema=schema), model="m")
        job.commit()
    assert whats(store) == [f"holds rows of run {there} in a file of run {here}"]
