"""What is read of the folder of commits, and what is not believed. Hundreds of altered ones: see test_mutants.py."""

import json
import os

import pytest

from neuronlake.errors import StoreError
from neuronlake.schema.leftovers import Problem
from neuronlake.schema.names import Place


@pytest.fixture
def filled(store, experts):
    with store.job("a/b", kind="partition") as job:
        for part in (0, 1):
            job.write("experts", experts(layer=part), part=part, model="m")
        job.commit()
    return store


def edit(store, **changes):
    file = store.path / "commits/a--b.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_copy_of_a_commit_counts_once_and_check_says_so(filled):
    commit = filled.path / "commits/a--b.json"
    (filled.path / "commits/a--b (conflicted copy).json").write_bytes(commit.read_bytes())
    assert len(filled.commits()) == 1
    assert len(filled.files("experts")) == 2
    assert filled.check() == (Problem("commits/a--b (conflicted copy).json", "a copy of a--b.json, and so ignored"),)


def test_a_commit_whose_only_file_has_another_name_is_refused(filled):
    commit = filled.path / "commits/a--b.json"
    commit.rename(commit.with_name("a--b (1).json"))
    with pytest.raises(StoreError, match=r"a--b \(1\)\.json is the commit of 'a/b' under another name than a--b"):
        filled.commits()


def test_hidden_files_stop_no_store_and_check_names_them(filled):
    for name in ("._a--b.json", ".DS_Store"):
        (filled.path / "commits" / name).write_bytes(b"\0\5\26\7")
    assert len(filled.commits()) == 1
    assert [problem.what for problem in filled.check()] == ["no commit, and so ignored"] * 2


def test_parts_come_in_their_order_however_a_commit_lists_them(filled):
    (commit,) = filled.commits()
    listed = json.loads((filled.path / "commits/a--b.json").read_text())["files"]
    edit(filled, files=listed[::-1])
    assert filled.commits() == (commit,)
    assert [path.name for path in filled.files("experts")] == ["a--b-0.parquet", "a--b-1.parquet"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"job": "other"}, r"'data/experts/m/a--b-0\.parquet' is no place for rows of 'experts' by 'other'$"),
        ({"job": 7}, r"Expected `str`, got `int` - at `\$\.job`$"),
        ({"schema_version": True}, r"Expected `int`, got `bool` - at `\$\.schema_version`$"),
        ({"committed_at": "yesterday"}, "Invalid isoformat string: 'yesterday'$"),
        ({"author": "someone"}, "Object contains unknown field `author`$"),
        ({"files": [3]}, r"Expected `object`, got `int` - at `\$\.files\[0\]`$"),
    ],
)
def test_what_is_wrong_in_a_commit_is_said(filled, changes, message):
    edit(filled, **changes)
    with pytest.raises(StoreError, match=message):
        filled.commits()


@pytest.mark.parametrize("name", ["commits", "data", "data/experts"])
def test_a_link_below_the_store_is_not_followed(filled, name):
    folder = filled.path / name
    elsewhere = filled.path.with_name("elsewhere")
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    with pytest.raises(StoreError, match="is a symbolic link, "):
        filled.files("experts")


def test_a_store_behind_a_link_is_a_store(filled, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(filled.path)
    assert len(type(filled)(link).files("experts")) == 2


def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(filled):
    for file in filled.files("experts"):
        file.unlink()
        os.mkfifo(file)
    with pytest.raises(StoreError, match=r"a--b-0\.parquet: not read: no regular file$"):
        filled.files("experts")
    assert [problem.what for problem in filled.check()] == ["not read: no regular file"] * 2


def test_a_folder_of_commits_that_cannot_be_read_is_no_empty_store(filled, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StoreError, match=r"^cannot read .*commits: Permission denied$"):
        filled.commits()


@pytest.mark.parametrize("job", ["x" * 300, "\udcff", "\0", "."])
def test_a_job_that_no_store_can_hold_is_in_none(filled, job):
    assert filled.commit(job) is None


def test_a_place_is_read_from_a_path_that_a_job_would_write():
    assert Place.of("data/experts/m/main/a-b-12.parquet") == Place("data/experts/m/main", "experts", "a-b", 12)
    assert Place.of("data/experts/../experts/a-0.parquet") is None
