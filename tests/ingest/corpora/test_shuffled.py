import dataclasses
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuronlake.errors import IngestError, UnknownNameError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.shuffled import read_shuffled
from neuronlake.schema import parquet
from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.tables import table

SPANS = [
    Instance("the cat sat", {"grammar/noun": True}, start=4, end=7, source_id="1", split_group="tale"),
    Instance("the cat sat", {"grammar/verb": True}, start=8, end=11, split_group="tale"),
    Instance("ah!", {}, target="oh!"),
    Instance("the cat sat", {}, start=0, end=3, split_group="tale"),
    Instance("ah!", {"grammar/noun": True}, target="no!"),
]


@pytest.fixture
def original(source, store):
    """Return a function that writes corpus ``original``."""
    return lambda instances, negatives="rest", **fields: build_corpus(
        source(instances, negatives, **fields), "original", store=store.path
    )


@pytest.fixture
def shuffle(store):
    """Return a function that writes the original shuffled, under a name for each seed."""
    return lambda seed=0: build_corpus(
        read_shuffled("original", store=store.path, seed=seed), f"s{seed}", store=store.path
    )


@pytest.fixture
def read(store):
    """Return a function that reads the rows of a table of one corpus, without the corpus's name."""

    def rows(name, corpus):
        found = [pq.read_table(path, partitioning=None) for path in store.files(name, job=f"corpus-{corpus}")]
        return pa.concat_tables(found).drop_columns("corpus").to_pylist()

    return rows


@pytest.fixture
def label_sets(read):
    """Return a function that reads the labels of each instance that has any."""

    def sets(corpus):
        found = {}
        for row in read("labels", corpus):
            found.setdefault(row["instance_id"], {})[row["function"]] = row["is_positive"]
        return found

    return sets


@pytest.fixture
def labelled(label_sets):
    """Return a function that tells of each of 5,000 instances whether it has a label."""

    def which(corpus):
        found = label_sets(corpus)
        return [instance in found for instance in range(5000)]

    return which


def phi(first, second):
    return np.corrcoef(first, second)[0, 1]


def many(n, draw):
    generator = random.Random(5)
    return [Instance(f"text {index}", draw(generator)) for index in range(n)]


def pairs(generator):
    """Two functions, of a third and a sixth, the second only together with the first."""
    if generator.random() > 1 / 3:
        return {}
    return {"task/a": True} | ({"task/b": True} if generator.random() < 1 / 2 else {})


def judged(generator):
    """Two functions that judge the same three quarters of the texts and mostly agree, and one that judges others."""
    if generator.random() < 1 / 4:
        return {"task/other": generator.random() < 1 / 3}
    first = generator.random() < 1 / 2
    return {"task/first": first, "task/second": first ^ (generator.random() < 1 / 10)}


def test_texts_and_instances_stay_as_they_are(original, shuffle, read):
    original(SPANS)
    shuffle()
    assert len(read("texts", "s0")) == 3
    assert read("texts", "s0") == read("texts", "original")
    assert read("instances", "s0") == read("instances", "original")


def test_every_part_of_a_corpus_in_several_files_is_read(original, shuffle, read, store, monkeypatch):
    monkeypatch.setattr("neuronlake.ingest.corpora.builder._PART_ROWS", 2)
    monkeypatch.setattr("neuronlake.ingest.corpora.builder._PART_LABELS", 2)
    original(SPANS)
    assert [len(store.files(name)) for name in ("texts", "instances", "labels")] == [2, 3, 2]
    shuffle()
    for name in ("texts", "instances", "functions"):
        assert read(name, "s0") == read(name, "original")
    assert len(read("labels", "s0")) == 3


@pytest.mark.parametrize(("negatives", "draw"), [("rest", pairs), ("explicit", judged)])
def test_counts_and_descriptions_of_functions_stay(original, shuffle, read, negatives, draw):
    name = "task/a" if negatives == "rest" else "task/other"
    original(many(300, draw), negatives, descriptions={name: "a meaning"})
    shuffle()
    assert read("functions", "s0") == read("functions", "original")
    assert "a meaning" in [row["description"] for row in read("functions", "s0")]


def test_the_labels_of_an_instance_move_together(original, shuffle, label_sets):
    original(many(300, pairs))
    shuffle()
    before, after = label_sets("original"), label_sets("s0")
    assert Counter(map(str, after.values())) == Counter(map(str, before.values()))
    assert after != before


def test_the_association_with_the_original_is_gone(original, shuffle, labelled):
    original(many(5000, pairs))
    shuffle()
    # The standard error of phi is 1/sqrt(5000) = .014.
    assert abs(phi(labelled("original"), labelled("s0"))) < 0.05


def test_two_seeds_are_independent_permutations(original, shuffle, labelled):
    original(many(5000, pairs))
    shuffle(1)
    shuffle(2)
    assert abs(phi(labelled("s1"), labelled("s2"))) < 0.05


def test_explicit_labels_stay_among_the_instances_of_their_function(original, shuffle, read):
    original(many(300, judged), "explicit")
    shuffle()
    keys = ("instance_id", "family", "function")
    before, after = ([tuple(row[key] for key in keys) for row in read("labels", name)] for name in ("original", "s0"))
    assert after == before


def test_explicit_functions_of_the_same_instances_are_permuted_alike(original, shuffle, label_sets):
    original(many(5000, judged), "explicit")
    shuffle()
    before, after = ([each for each in label_sets(name).values() if len(each) == 2] for name in ("original", "s0"))
    assert Counter(map(str, after)) == Counter(map(str, before))
    for function in ("first", "second"):
        assert abs(phi([each[function] for each in before], [each[function] for each in after])) < 0.06


def test_explicit_functions_of_different_instances_are_permuted_apart(original, shuffle, label_sets):
    alike = [index % 3 == 0 for index in range(2000)]
    original(
        [Instance(f"one {index}", {"task/one": value}) for index, value in enumerate(alike)]
        + [Instance(f"two {index}", {"task/two": value}) for index, value in enumerate(alike)],
        "explicit",
    )
    shuffle()
    found = label_sets("s0")
    one, two = [found[index]["one"] for index in range(2000)], [found[2000 + index]["two"] for index in range(2000)]
    assert sum(one) == sum(two) == sum(alike)
    assert abs(phi(one, two)) < 0.08


def test_the_same_seed_gives_the_same_corpus_and_another_another(original, shuffle):
    original(many(300, pairs))
    first = shuffle(3)
    assert first.is_new
    assert not shuffle(3).is_new
    assert shuffle(4).corpus_sha256 != first.corpus_sha256


def test_a_seed_gives_the_same_permutation_everywhere(original, shuffle, label_sets):
    original([Instance(f"text {index}", {f"task/{index}": True}) for index in range(8)])
    shuffle(0)
    # The stable order of the first eight draws of PCG64(0), as numpy documents the generator.
    moved_to = [3, 2, 1, 6, 0, 7, 4, 5]
    assert label_sets("s0") == {place: {str(index): True} for index, place in enumerate(moved_to)}


def test_the_corpus_says_what_it_was_made_of(source, store, read):
    build_corpus(dataclasses.replace(source(SPANS), licence="CC0"), "original", store=store.path)
    build_corpus(read_shuffled("original", store=store.path, seed=7), "null", store=store.path)
    (row,) = read("corpora", "null")
    assert row["description"] == "labels of original permuted, seed 7"
    assert row["licence"] == "CC0"
    assert row["source"] == "shuffled: original (test: literals)"
    assert row["dropped"] == "{}"


def test_an_unknown_corpus_is_named_beside_those_that_are_there(original, store):
    original(SPANS)
    with pytest.raises(UnknownNameError, match=r"no corpus 'none' in .*; available: original"):
        read_shuffled("none", store=store.path)


def test_a_corpus_of_both_kinds_of_negatives_is_refused(original, store):
    original(SPANS)
    (path,) = store.files("functions")
    rows = pq.read_table(path, partitioning=None).to_pylist()
    rows[0]["negatives"] = "explicit"
    declared = table("functions")
    parquet.write(declared, pa.Table.from_pylist(rows, schema=arrow_schema(declared)), path, metadata={})
    with pytest.raises(IngestError, match="corpus original: negatives are the rest in 1 of 2 functions and explicit"):
        read_shuffled("original", store=store.path)
