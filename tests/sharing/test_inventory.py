"""What is in a store: jobs, runs, sizes, and what depends on what."""

import pytest

from neuronlake.errors import StoreError
from neuronlake.schema.store import Store
from neuronlake.sharing.jobs import list_jobs, list_runs


def test_jobs_say_what_they_depend_on_and_what_depends_on_them(laboratory):
    rows = {row["job"]: row for row in list_jobs(laboratory)}
    assert {name: row["depends_on"] for name, row in rows.items()} == {
        "corpus-words": [],
        "aa11": ["corpus-words"],
        "aa22": ["corpus-words"],
        "best-aa11": ["aa11"],
        "bb11": ["aa11"],
        "cc11": ["aa11", "bb11"],
    }
    assert rows["bb11"]["dependents"] == ["cc11"]
    assert rows["aa11"]["dependents"] == ["best-aa11", "bb11", "cc11"]
    assert rows["corpus-words"]["dependents"] == ["aa11", "aa22", "best-aa11", "bb11", "cc11"]
    assert rows["aa11"]["models"] == ["tiny"]


def test_the_sizes_of_jobs_are_those_of_their_files(laboratory):
    on_disk = sum(file.stat().st_size for file in (laboratory / "data").rglob("*.parquet"))
    assert sum(row["size_bytes"] for row in list_jobs(laboratory)) == on_disk


def test_a_run_is_listed_with_what_was_added_to_it_and_what_depends_on_it(laboratory):
    first, second = list_runs(laboratory)
    assert (first["run_id"], first["corpus"], first["device"], first["n_rows"]) == ("aa11", "words", "cpu", 6)
    assert first["dependents"] == "1 alignment, 1 best, 1 partition"
    assert (second["run_id"], second["dependents"], second["n_rows"]) == ("aa22", "", 5)


def test_a_store_without_jobs_has_no_rows_and_a_folder_that_is_none_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    assert (len(list_jobs(tmp_path / "empty")), len(list_runs(tmp_path / "empty"))) == (0, 0)
    with pytest.raises(StoreError, match="no store at"):
        list_runs(tmp_path / "nowhere")
    assert Store(tmp_path / "empty").commits() == ()
