"""Jobs go if nothing depends on them, with all their files, whatever stops the removal."""

import itertools
import json
import os
import shutil
import signal
import sys

import pytest

from neuronlake.errors import StoreError, UnknownNameError
from neuronlake.schema.store import Store
from neuronlake.sharing.jobs import remove_jobs


def jobs(path):
    return sorted(commit.job for commit in Store(path).commits())


def test_what_adds_to_a_run_goes_with_it_and_nothing_is_left(laboratory):
    remove_jobs(laboratory, ["cc11"])
    remove_jobs(laboratory, ["bb"])
    report = remove_jobs(laboratory, ["aa11"])
    assert report.jobs == (("best", "best-aa11"), ("run", "aa11"))
    assert report.n_files == 4
    assert jobs(laboratory) == ["aa22", "corpus-words"]
    assert Store(laboratory).check() == ()
    assert [file for file in (laboratory / "data").rglob("*.parquet") if "aa11" in file.name] == []
    assert Store(laboratory).unfinished() == {}


def test_a_job_that_others_depend_on_stays_unless_they_go_too(laboratory, contents):
    before = contents(laboratory)
    with pytest.raises(
        StoreError, match=r"aa11 cannot be removed from .* alone, .* depend on it: partition bb11, alignment cc11;"
    ):
        remove_jobs(laboratory, ["aa11"])
    report = remove_jobs(laboratory, ["aa11"], with_dependents=True, dry_run=True)
    assert contents(laboratory) == before
    names = [name for _, name in report.jobs]
    assert names.index("cc11") < names.index("bb11") < names.index("aa11") == len(names) - 1
    assert "run aa11: would be removed" in report.describe()
    remove_jobs(laboratory, ["words"], with_dependents=True)
    assert jobs(laboratory) == []
    assert Store(laboratory).check() == ()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dd", "no job 'dd' in .*; available: aa11, aa22, bb11, cc11, words"),
        ("aa", "'aa' stands for several jobs in .*: aa11, aa22; give more digits"),
        ("", "no job ''"),
        ("wor", "no job 'wor'"),
    ],
)
def test_a_name_that_is_not_one_job_is_refused(laboratory, contents, name, said):
    before = contents(laboratory)
    with pytest.raises((UnknownNameError, StoreError), match=said):
        remove_jobs(laboratory, [name], with_dependents=True)
    assert contents(laboratory) == before


def test_nothing_goes_while_a_job_runs(laboratory):
    with (
        Store(laboratory).job("new", kind="partition"),
        pytest.raises(StoreError, match=r"a job is running in .*: new; wait for it"),
    ):
        remove_jobs(laboratory, ["aa22"])
    assert "aa22" in jobs(laboratory)


def test_what_was_committed_meanwhile_stops_a_removal(laboratory, make):
    store = Store(laboratory)
    known = store.commits()
    make["partition"](laboratory, "bb22", run_id="aa22")
    with pytest.raises(StoreError, match="has changed meanwhile, and nothing was removed"):
        store.remove([store.commit("aa22")], known=known)
    assert "aa22" in jobs(laboratory)


def test_a_copy_of_a_commit_goes_with_it(laboratory):
    shutil.copy(laboratory / "commits" / "aa22.json", laboratory / "commits" / "aa22 (1).json")
    remove_jobs(laboratory, ["aa22"])
    assert "aa22" not in jobs(laboratory)
    assert Store(laboratory).check() == ()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_removal_that_is_killed_at_any_step_leaves_jobs_whole_or_gone(laboratory, make):
    expected = ["aa22", "corpus-words"]
    for step in itertools.count(1, 3):
        path = shutil.copytree(laboratory, laboratory.with_name(f"killed-{step}"))
        if not _is_killed(path, step):
            break
        left = jobs(path)
        assert "aa11" in left or not {"bb11", "cc11", "best-aa11"} & {*left}
        assert all(Store(path).locate(file).exists() for commit in Store(path).commits() for file in commit.files)
        if "aa11" in left:
            remove_jobs(path, ["aa11"], with_dependents=True)
        else:
            Store(path).repair()
        assert jobs(path) == expected
        assert Store(path).check() == ()
        assert not [file for file in (path / "data").rglob("*.parquet") if "aa11" in file.name]
    assert step > 25
    make["run"](path)  # what is gone can be made anew
    assert Store(path).check() == ()


def _is_killed(path, step):
    """Remove a run in a process that dies before its `step`-th step on the disk; return False if it takes fewer."""
    process = os.fork()
    if process == 0:
        n_steps = 0

        def count(event, arguments):
            nonlocal n_steps
            is_writing = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            n_steps += is_writing or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock")
            if n_steps == step:
                os._exit(9)

        signal.alarm(60)
        sys.addaudithook(count)
        try:
            remove_jobs(path, ["aa11"], with_dependents=True)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


def test_readers_of_the_card_see_what_is_left(laboratory):
    remove_jobs(laboratory, ["cc11"])
    assert "alignments" not in (laboratory / "README.md").read_text()
    assert json.loads((laboratory / "commits" / "aa11.json").read_text())["job"] == "aa11"
