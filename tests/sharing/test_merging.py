"""Stores merge job by job, in any order alike; what they contradict each other in is refused, and nothing written."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronlake.errors import StoreError
from neuronlake.queries.database import Database
from neuronlake.schema.names import file_sha256
from neuronlake.schema.store import Store
from neuronlake.sharing.merging import merge_stores
from neuronlake.sharing.pack import pack_store

SOURCE = Path(__file__).resolve().parents[2] / ".src"


def rows(path, query):
    return Database(path).sql(query).rows()


@pytest.fixture
def laboratories(tmp_path, make):
    """Return a function that makes two stores, in which a making of a job differs by arguments."""

    def two(kind, first, second):
        paths = tmp_path / "a", tmp_path / "b"
        for path, arguments in zip(paths, (first, second), strict=True):
            if kind != "corpus":
                make["corpus"](path)
            make[kind](path, **arguments)
        return paths

    return two


def test_a_merge_into_an_empty_store_is_the_store_and_merging_again_changes_nothing(laboratory, contents):
    merged = laboratory.with_name("merged")
    report = merge_stores([laboratory], into=merged)
    assert (report.n_jobs, report.n_new, report.made_twice) == (6, 6, ())
    assert contents(merged) == contents(laboratory)
    assert merge_stores([laboratory, merged], into=merged).n_new == 0
    assert merge_stores([laboratory, laboratory], into=laboratory).describe() == "6 jobs, 0 committed now"
    assert contents(merged) == contents(laboratory)


def test_what_each_of_two_stores_holds_alone_is_in_the_merged_one(tmp_path, make):
    a, b, merged = tmp_path / "a", tmp_path / "b", tmp_path / "merged"
    make["corpus"](a)
    make["run"](a)
    shutil.copytree(a, b)
    make["partition"](a)
    make["run"](b, "aa22")
    assert merge_stores([a, b], into=merged).n_jobs == 4
    assert rows(merged, "select run_id from runs order by run_id") == [("aa11",), ("aa22",)]
    assert Store(merged).check() == ()


def test_of_a_run_that_two_laboratories_made_one_is_kept_and_the_other_recorded(laboratories, tmp_path, contents):
    stores = laboratories("run", {"device": "cpu"}, {"device": "cuda", "shift": 1e-5})
    assert merge_stores(stores, into=tmp_path / "there").made_twice == ("aa11",)
    merge_stores(stores[::-1], into=tmp_path / "back")
    assert contents(tmp_path / "there") == contents(tmp_path / "back")
    query = "select device, duration_s from runs union all select device, duration_s from merged_copies order by device"
    assert rows(tmp_path / "there", query) == [("cpu", 1), ("cuda", 1 + 1e-5)]
    assert Store(tmp_path / "there").check() == ()


@pytest.mark.parametrize(
    ("kind", "first", "second", "said"),
    [
        ("run", {}, {"shift": 0.01}, "table neuron_functions, column ap, .*neuron=0.* of the column's largest value"),
        ("run", {}, {"n_positive": 6}, r"column n_positive, run_id='aa11', .*: [56] and [56] \(tolerated: 2e-05; "),
        ("run", {"dtype": "float16"}, {"dtype": "float16", "shift": 0.02}, r"column ap, .* \(tolerated: 0.002; "),
        ("corpus", {}, {"digest": "d2"}, r"corpus 'words' is another in .*a \(digest d1\) than in .*b \(d2\)"),
        ("partition", {"run_id": None}, {"run_id": "aa11"}, "partition bb11 is another in .*column run_id"),
    ],
)
def test_stores_that_contradict_each_other_are_refused_and_nothing_is_written(
    laboratories, tmp_path, kind, first, second, said
):
    with pytest.raises(StoreError, match=said) as refused:
        merge_stores(laboratories(kind, first, second), into=tmp_path / "merged")
    assert str(tmp_path / "a") in str(refused.value)
    assert str(tmp_path / "b") in str(refused.value)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("first", "second"),
    [({"reverse": True}, {}), ({"dtype": "float16"}, {"dtype": "float16", "shift": 0.001}), ({}, {"shift": 1e-5})],
)
def test_makings_that_differ_in_order_and_rounding_alone_agree(laboratories, tmp_path, first, second):
    assert merge_stores(laboratories("run", first, second), into=tmp_path / "merged").made_twice == ("aa11",)


def test_a_store_keeps_what_it_has_and_says_so_where_another_making_is_to_be_kept(laboratories, tmp_path, contents):
    a, b = laboratories("run", {}, {"device": "cuda"})
    merge_stores([a, b], into=tmp_path / "merged")
    device = rows(tmp_path / "merged", "select device from runs")[0]
    keeper, other = (a, b) if device == ("cpu",) else (b, a)
    assert merge_stores([other], into=keeper).n_new == 1
    query = "select device from runs union all select device from merged_copies"
    assert rows(keeper, query) == rows(tmp_path / "merged", query)
    before = contents(other)
    with pytest.raises(StoreError, match=r"the run aa11 of .* would take the place of that in .*; merge into a new"):
        merge_stores([keeper], into=other)
    assert contents(other) == before


def test_a_run_is_refused_whose_corpus_is_another_in_the_other_store(tmp_path, make):
    make["run"](tmp_path / "a")
    make["corpus"](tmp_path / "b", digest="d2")
    with pytest.raises(StoreError, match="corpus 'words' is another"):
        merge_stores([tmp_path / "a", tmp_path / "b"], into=tmp_path / "merged")


@pytest.mark.parametrize("replaced_by", ["link", "pipe", "bytes", "nothing"])
def test_a_file_that_is_not_what_was_committed_is_not_merged(laboratory, tmp_path, replaced_by):
    file = next((laboratory / "data" / "experts").rglob("*.parquet"))
    elsewhere = tmp_path / "elsewhere"
    shutil.move(file, elsewhere)
    if replaced_by == "link":
        file.symlink_to(elsewhere)
    elif replaced_by == "pipe":
        os.mkfifo(file)
    elif replaced_by == "bytes":
        shutil.copy(next((laboratory / "data" / "partitions").rglob("*.parquet")), file)
    with pytest.raises(StoreError, match=file.name):
        merge_stores([laboratory], into=tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_changed_score_whose_digests_were_rewritten_is_refused(laboratories, tmp_path, make):
    a, b = laboratories("run", {}, {"shift": 0.3})
    path = next((b / "data" / "neuron_functions").rglob("*.parquet"))
    commit = json.loads((b / "commits" / "aa11.json").read_text())
    assert file_sha256(path) in [file["sha256"] for file in commit["files"]]
    with pytest.raises(StoreError, match="worst cell: table neuron_functions, column ap"):
        merge_stores([a, b], into=tmp_path / "merged")


@pytest.fixture
def no_waiting(monkeypatch):
    """Do not wait for the disk: no power is lost here."""
    monkeypatch.setattr("neuronlake.schema.disk.sync", lambda _: None)


@pytest.fixture(scope="module")
def makings(tmp_path_factory, make):
    """Return stores of one job each: several makings of jobs, all alike but for times, devices and rounding."""
    folder, paths = tmp_path_factory.mktemp("makings"), []

    def add(kind, **arguments):
        paths.append(folder / f"{kind}-{len(paths)}")
        make[kind](paths[-1], **arguments)

    for number in range(3):
        add("run", device=f"device {number}", shift=number * 5e-6)
    add("run", device="device 0", shift=0)  # the bytes of the first, committed later
    for number in range(2):
        add("best", shift=number * 5e-6)
        add("corpus", source=f"file {number}")
        add("partition", duration_s=number)
    return paths


@pytest.mark.long
@pytest.mark.usefixtures("no_waiting")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_merging_is_commutative_associative_and_idempotent(data, makings, contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merges")
    numbers = itertools.count()
    chosen = data.draw(st.lists(st.sampled_from(makings), min_size=2, max_size=5), label="stores")

    def merged(stores):
        path = folder / str(next(numbers))
        merge_stores(stores, into=path)
        return path

    expected = contents(merged(sorted({*chosen})))
    left = list(data.draw(st.permutations(chosen), label="order"))
    while len(left) > 1:
        n = data.draw(st.integers(2, len(left)), label="merged at once")
        left = [*left[n:], merged(left[:n])]
    assert contents(merged([left[0], left[0]])) == expected
    shutil.rmtree(folder)


# Merges in a process that dies before a step on the disk; of its own, for polars does not survive a fork.
MERGE_AND_DIE = """
import os
import sys
from neuronlake.sharing.merging import merge_stores
from neuronlake.sharing.pack import pack_store

n_steps, (step, into, *stores) = 0, sys.argv[1:]

def count(event, arguments):
    global n_steps
    is_writing = event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    n_steps += is_writing or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock")
    if n_steps == int(step):
        os._exit(9)

sys.addaudithook(count)
merge_stores(stores, into=into)
"""


@pytest.mark.slow
def test_a_merge_that_is_killed_anywhere_goes_on_where_it_was(laboratories, tmp_path, contents):
    stores = laboratories("run", {"device": "cpu"}, {"device": "cuda"})
    merge_stores(stores, into=tmp_path / "expected")
    for step in itertools.count(2, 7):
        path = tmp_path / f"killed-{step}"
        command = [sys.executable, "-c", MERGE_AND_DIE, str(step), path, *stores]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == 9
        held = {commit.job for commit in Store(path).commits()}
        assert "aa11" not in held or "corpus-words" in held
        merge_stores(stores, into=path)
        assert contents(path) == contents(tmp_path / "expected")
        assert Store(path).check() == ()
    assert step > 40


@pytest.mark.parametrize("is_first", [True, False])
def test_a_pack_without_texts_merges_with_the_store_that_has_them(laboratory, tmp_path, contents, is_first):
    pack_store(laboratory, tmp_path / "bare", with_texts=False)
    stores = [tmp_path / "bare", laboratory][:: 1 if is_first else -1]
    assert merge_stores(stores, into=tmp_path / "merged").made_twice == ()
    assert contents(tmp_path / "merged") == contents(laboratory)


def test_a_slice_takes_along_what_is_recorded_of_copies(laboratories, tmp_path, make):
    a, b = laboratories("run", {"device": "cpu"}, {"device": "cuda"})
    make["run"](a, "aa22")
    merge_stores([a, b], into=tmp_path / "merged")
    pack_store(tmp_path / "merged", tmp_path / "pack", where="run_id = 'aa11'")
    assert rows(tmp_path / "pack", "select job from merged_copies") == [("aa11",)]
