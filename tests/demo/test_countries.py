import sys

import pytest

from neuronlake.demo.corpus import RELATIONS, read_countries
from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.schema.store import Store

pytest.importorskip("countryinfo", reason="needs the extra demo")


def test_facts_of_seven_relations_are_read_and_balanced(tmp_path):
    report = build_corpus(read_countries(), "test", store=tmp_path / "store")
    stored = StoredCorpus(Store(tmp_path / "store"), "test")
    functions = stored.read("functions", "function", "negatives", "n_positive", "n_negative").to_pylist()
    assert [row["function"] for row in functions] == sorted(each.name for each in RELATIONS)
    assert {row["negatives"] for row in functions} == {"explicit"}
    assert all(row["n_positive"] == row["n_negative"] for row in functions)
    assert report.n_functions == 7
    # Nothing is lost to duplicates, so that every true fact keeps its false one.
    assert not [reason for reason in report.dropped if reason.startswith("duplicate")]


def test_known_facts_are_true_and_stay_with_their_country():
    labels = {each.text: (dict(each.labels), each.split_group) for each in read_countries().instances}
    assert labels["The capital of Peru is Lima."] == ({"knowledge/capital": True}, "Peru")
    assert labels["A language spoken by many people in Switzerland is Italian."][0] == {"knowledge/language": True}
    assert labels["The code of the currency used in Japan is JPY."][0] == {"knowledge/currency": True}


def test_no_other_true_value_is_used_as_a_wrong_one():
    for seed in range(5):
        for each in read_countries(seed=seed).instances:
            if each.split_group == "Switzerland" and "language" in each.text:
                true = any(name in each.text for name in ("German", "French", "Italian"))
                assert each.labels["knowledge/language"] == true


def test_a_cap_keeps_so_many_facts_of_each_relation_by_seed():
    source = read_countries(cap=10, seed=1)
    instances = list(source.instances)
    assert len(instances) == 7 * 2 * 10
    assert instances == list(read_countries(cap=10, seed=1).instances)
    assert instances != list(read_countries(cap=10, seed=2).instances)
    assert source.reading.dropped["fact beyond the cap"] > 1000


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "countryinfo", None)
    with pytest.raises(IngestError, match=r"'countryinfo', which is not installed: pip install 'neuronlake\[demo\]'"):
        read_countries()
