"""Jobs on a disk whose locks fail: every job is committed once, and nothing is half-written."""

import contextlib
import errno
import fcntl
import os
import socket

import pyarrow.parquet as pq
import pytest

from neuronlake.errors import StoreError
from neuronlake.schema import card, leftovers

PARTITION = {"kind": "partition"}


@pytest.fixture(autouse=True, params=[errno.ENOLCK, errno.ENOTSUP])
def no_locks(request, monkeypatch):
    """Let every lock fail, here and in other processes."""

    def fail(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setenv("NEURONLAKE_LOCKS", "off")


def partition_ids(store):
    tables = [pq.read_table(path, partitioning=None) for path in store.files("experts")]
    return sorted({each for table in tables for each in table["partition_id"].to_pylist()})


def staged(store):
    return [folder.name for folder in store.staging.iterdir()]


def test_a_job_is_committed_without_a_trace_of_its_staging(store, experts):
    with store.job("j", **PARTITION) as job:
        job.write("experts", experts(partition_id="one"), part=0)
        job.write("experts", experts(partition_id="two"), part=1)
        assert store.unfinished() == {staged(store)[0]: "running"}
        job.commit()
    assert partition_ids(store) == ["one", "two"]
    assert staged(store) == []
    assert store.check() == ()


def test_of_two_attempts_at_once_the_first_commit_stands_and_the_other_goes_on(store, experts):
    with store.job("j", **PARTITION) as first, store.job("j", **PARTITION) as second:
        first.write("experts", experts(4, partition_id="first"))
        second.write("experts", experts(5, partition_id="second"))
        commit = second.commit()
        assert first.commit() == commit
    assert partition_ids(store) == ["second"]
    assert store.commits() == (commit,)
    assert staged(store) == []
    assert store.check() == ()
    with pytest.raises(StoreError, match="j is already committed"), store.job("j", **PARTITION):
        pass


def test_two_processes_that_commit_one_job_make_one_commit(store, other_process):
    code = """
        import os
        with store.job("j", kind="partition") as job:
            job.write("experts", rows(str(os.getpid())))
            print("staged", flush=True)
            sys.stdin.readline()
            print(job.commit().committed_at, flush=True)
        """
    processes = [other_process(code) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "staged\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    commits = {process.stdout.readline() for process in processes}
    assert [process.wait() for process in processes] == [0, 0]
    assert len(commits) == 1
    (commit,) = store.commits()
    assert commits == {f"{commit.committed_at}\n"}
    assert len(partition_ids(store)) == 1
    assert store.check() == ()


def test_jobs_that_commit_at_once_are_all_on_the_card(store, experts, monkeypatch):
    """Another job commits between this one's commit and its card."""
    from neuronlake.schema.job import Job

    write_card, is_inner = Job._write_card, []

    def interleaved(job, commits):
        if not is_inner and len(commits) == 1 and job.name == "a":
            is_inner.append(True)
            with store.job("b", **PARTITION) as other:
                other.write("experts", experts(partition_id="b"))
                other.commit()
        write_card(job, commits)

    monkeypatch.setattr(Job, "_write_card", interleaved)
    with store.job("a", **PARTITION) as job:
        job.write("experts", experts(partition_id="a"))
        job.commit()
    assert {commit.job for commit in store.commits()} == {"a", "b"}
    assert card.is_current(store.path / "README.md", store.commits())


def test_what_a_failed_attempt_staged_is_the_next_ones(store, experts):
    with contextlib.suppress(RuntimeError), store.job("j", **PARTITION) as job:
        job.write("experts", experts(partition_id="kept"), part=0)
        raise RuntimeError
    assert staged(store) == ["j"]
    with store.job("j", **PARTITION) as job:
        assert job.is_staged("experts", 0)
        job.commit()
    assert partition_ids(store) == ["kept"]


def test_a_killed_process_of_this_machine_leaves_its_parts_to_the_next(store, other_process):
    process = other_process("""
        with store.job("j", kind="partition") as job:
            job.write("experts", rows("kept"), part=0)
            print("staged", flush=True)
            time.sleep(60)
        """)
    assert process.stdout.readline() == "staged\n"
    with store.job("j", **PARTITION) as job:
        assert not job.is_staged("experts", 0), "the process still runs"
    process.kill()
    process.wait()
    with store.job("j", **PARTITION) as job:
        assert job.is_staged("experts", 0)
        job.commit()
    assert partition_ids(store) == ["kept"]


def test_a_folder_of_another_machine_is_left_alone(store, experts):
    name = f"j=another-{socket.gethostname()}=1=1=abcd"
    (store.staging / name).mkdir(parents=True)
    assert leftovers.is_held(store.staging / name)
    with store.job("j", **PARTITION) as job:
        job.write("experts", experts())
        job.commit()
    assert staged(store) == [name]


def test_a_job_that_workers_staged_is_committed_later_but_never_empty(store, experts):
    with store.job("j", **PARTITION) as job:
        job.write("experts", experts(partition_id="staged"))
    assert staged(store) == ["j"]
    commit = store.commit_staged("j", **PARTITION)
    assert store.commit_staged("j", **PARTITION) == commit
    assert partition_ids(store) == ["staged"]
    with pytest.raises(StoreError, match="nothing is staged for k in"):
        store.commit_staged("k", **PARTITION)


def test_what_needs_a_lock_says_so(store, experts):
    with store.job("j", **PARTITION) as job:
        job.write("experts", experts())
        job.commit()
    with pytest.raises(StoreError, match="cannot write the store"):
        store.remove(store.commits(), known=store.commits())
