"""Which names a store can hold."""

import pytest

from neuronlake.errors import StoreError
from neuronlake.schema.names import check_name, corpus_job, folder_name


@pytest.mark.parametrize("name", ["google/switch-base", "step 3/α", "v1.0", ".hidden", "parquet", "模型" * 10])
def test_ordinary_names_pass(name):
    check_name("model", name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "it is empty, or of dots alone"),
        (" . ", "it is empty, or of dots alone"),
        ("a\nb", "it holds control characters, or bytes that are no UTF-8"),
        ("a\udcff", "it holds control characters, or bytes that are no UTF-8"),
        ("x.Parquet", "readers would take its folder for a file of data"),
        ("x" * 300, "as a path it takes 300 bytes of at most 230"),
    ],
)
def test_a_name_that_no_store_can_hold_is_refused_in_one_printable_line(name, problem):
    with pytest.raises(StoreError) as caught:
        check_name("model", name)
    assert str(caught.value).startswith("model '")
    assert str(caught.value).endswith(f"cannot be stored under this name: {problem}; give another")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("google/switch", "google--switch"),
        ("a b", "a b"),
        ("..", "_"),
        (".hidden", "hidden"),
        ("", "_"),
        ("é", "%C3%A9"),
    ],
)
def test_names_become_one_safe_path_component(name, folder):
    assert folder_name(name) == folder


def test_no_folder_name_reads_as_a_hive_key():
    assert "=" not in folder_name("step=1000")


def test_no_folder_name_is_a_glob():
    assert not set(folder_name("a*b?c[d]")) & set("*?[")


def test_the_job_of_a_corpus_is_named_after_it():
    assert corpus_job("semcor") == "corpus-semcor"
