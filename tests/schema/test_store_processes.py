"""Several processes on one store, and processes that are killed."""

import errno
import fcntl
import os
import stat

import pyarrow.parquet as pq
import pytest

from neuronlake.errors import StoreError
from neuronlake.schema import disk


def partition_ids(store):
    tables = [pq.read_table(path, partitioning=None) for path in store.files("experts")]
    return sorted({each for table in tables for each in table["partition_id"].to_pylist()})


def test_a_job_killed_before_its_commit_leaves_nothing_visible_and_goes_on(store, other_process, experts):
    process = other_process("""
        with store.job("j", kind="partition") as job:
            job.write("experts", rows("first"), part=0)
            print("staged", flush=True)
            time.sleep(60)
        """)
    assert process.stdout.readline() == "staged\n"
    process.kill()
    process.wait()
    assert store.commits() == ()
    assert store.files("experts") == ()
    assert store.check() == ()
    with store.job("j", kind="partition") as job:
        assert job.is_staged("experts", 0)
        job.write("experts", experts(partition_id="second"), part=1)
        job.commit()
    assert partition_ids(store) == ["first", "second"]
    assert store.check() == ()


def test_a_job_killed_while_it_writes_a_part_does_not_count_the_part(store, other_process, experts):
    process = other_process("""
        import os, signal
        def die(path):
            os.kill(os.getpid(), signal.SIGKILL)
        with store.job("j", kind="partition") as job:
            disk.sync = die
            job.write("experts", rows("first"), part=0)
        """)
    process.wait()
    assert process.returncode == -9
    with store.job("j", kind="partition") as job:
        assert not job.is_staged("experts", 0)
        job.write("experts", experts(partition_id="again"), part=0)
        job.commit()
    assert partition_ids(store) == ["again"]
    assert list((store.path / ".staging").glob("*/")) == []


def test_a_job_killed_between_the_renames_and_the_commit_is_invisible_and_goes_on(store, other_process):
    process = other_process("""
        import os, signal
        def die(path, text, temporary):
            os.kill(os.getpid(), signal.SIGKILL)
        with store.job("j", kind="partition") as job:
            job.write("experts", rows("first"), part=0)
            disk.replace_text = die
            job.commit()
        """)
    process.wait()
    assert process.returncode == -9
    assert (store.path / "data/experts/j-0.parquet").exists()
    assert store.commits() == ()
    assert store.files("experts") == ()
    assert [problem.what for problem in store.check()] == ["in no commit, and so invisible to queries"]
    with store.job("j", kind="partition") as job:
        assert job.is_staged("experts", 0)
        job.commit()
    assert partition_ids(store) == ["first"]
    assert store.check() == ()


def test_two_processes_write_different_jobs_at_once(store, other_process):
    def start(name):
        return other_process(f"""
            with store.job({name!r}, kind="partition") as job:
                job.write("experts", rows({name!r}))
                print("staged", flush=True)
                sys.stdin.readline()
                job.commit()
            """)

    processes = [start("a"), start("b")]
    assert [process.stdout.readline() for process in processes] == ["staged\n", "staged\n"]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait() for process in processes] == [0, 0]
    assert partition_ids(store) == ["a", "b"]
    assert store.check() == ()


def test_a_second_process_on_the_same_job_is_refused(store, other_process, experts):
    process = other_process("""
        with store.job("j", kind="partition") as job:
            job.write("experts", rows("first"))
            print("staged", flush=True)
            sys.stdin.readline()
            job.commit()
        """)
    assert process.stdout.readline() == "staged\n"
    with (
        pytest.raises(StoreError, match=r"^another process is writing j to .*; wait for it, or stop it$"),
        store.job("j", kind="partition"),
    ):
        pass
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.wait() == 0
    assert partition_ids(store) == ["first"]


def test_many_jobs_of_two_processes_all_land(store, other_process):
    def start(name):
        return other_process(f"""
            for index in range(15):
                with store.job(f"{name}{{index}}", kind="partition") as job:
                    job.write("experts", rows(f"{name}{{index}}"))
                    job.commit()
            """)

    processes = [start("a"), start("b")]
    assert [process.communicate(timeout=60)[1] for process in processes] == ["", ""]
    assert len(store.commits()) == 30
    assert len(partition_ids(store)) == 30
    assert store.check() == ()
    assert "90 rows" in (store.path / "README.md").read_text()


def test_what_locks_a_store_is_locked_for_other_machines_of_a_network_file_system_too(store, experts, monkeypatch):
    lock = fcntl.flock

    def flock(descriptor, operation):
        """Lock as NFS does: a folder for this machine alone, a file if it is open for writing."""
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if not is_folder and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if not is_folder:
            lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with disk.locked(store.staging):
        assert disk.is_locked(store.staging / ".lock")
    with store.job("j", kind="partition") as job:
        job.write("experts", experts())
        assert store.unfinished() == {"j": "running"}
    assert store.unfinished() == {"j": "unfinished"}
    assert store.check() == ()


def test_the_jobs_of_a_store_on_a_disk_that_cannot_be_written_are_listed(store, experts, monkeypatch):
    with pytest.raises(KeyError), store.job("j", kind="partition") as job:  # noqa: PT012
        job.write("experts", experts())
        raise KeyError
    (store.staging / ".lock").unlink()
    opened = os.open

    def read_only(path, flags, *mode, **options):
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", read_only)
    assert store.unfinished() == {"j": "unfinished"}
    assert store.check() == ()
    with pytest.raises(StoreError, match=r"cannot write the store .*: Read-only file system"):
        store.repair()
