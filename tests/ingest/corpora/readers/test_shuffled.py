import dataclasses
import itertools
import json
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuronlake.errors import IngestError, UnknownNameError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.control_tasks import read_shuffled
from neuronlake.ingest.corpora.instance import Instance
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
    return lambda seed=0, **how: build_corpus(
        read_shuffled("original", store=store.path, seed=seed, **how), f"s{seed}", store=store.path
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


def of_texts(n_texts, n_spans):
    """Spans of texts, each text with a label of its own; two texts in a row share a group."""
    return [
        Instance(
            f"{text:03} abcdefgh",
            {f"s/{span}": True, f"t/text{text}": True},
            span,
            span + 3,
            split_group=f"{text // 2}",
        )
        for text in range(n_texts)
        for span in range(n_spans)
    ]


def test_by_text_the_labels_of_a_text_move_together_in_their_order_which_goes_round(original, shuffle, label_sets):
    original(of_texts(12, 4))
    shuffle(by="text")
    moved = [list(label_sets("s0")[instance]) for instance in range(48)]
    spans = [int(span) for span, _ in moved]
    assert all(
        after == (before + 1) % 4
        for place in range(0, 48, 4)
        for before, after in itertools.pairwise(spans[place : place + 4])
    )
    assert {*spans[::4]} == {0, 1, 2, 3}
    texts = [{text for _, text in moved[4 * place : 4 * place + 4]} for place in range(12)]
    assert {text for (text,) in texts} == {f"text{place}" for place in range(12)}
    assert all(text != {f"text{place}"} for place, text in enumerate(texts))


def test_by_group_those_of_all_its_texts_do(original, shuffle, label_sets):
    original(of_texts(24, 4))
    shuffle(by="group")
    moved = [list(label_sets("s0")[instance]) for instance in range(96)]
    groups = [[int(text[4:]) // 2 for _, text in moved[start : start + 8]] for start in range(0, 96, 8)]
    assert all(len({*group}) == 1 and group[0] != place for place, group in enumerate(groups))


def words(n_words=40, lemma=None, stratum=None):
    """Occurrences of words, of which each has a label of its own: 1 to 8 times, by tens."""
    return [
        Instance(
            f"{word:02} {index}",
            {f"w/{word}": True},
            0,
            2,
            lemma=lemma and lemma(word),
            stratum=stratum and stratum(word),
        )
        for index in range(8)
        for word in range(n_words)
        if index < 2 ** (word // 10)
    ]


def donors(label_sets, instances):
    """Return by word, which its text begins with, the words whose labels it has."""
    found = {}
    for place, labels in label_sets("s0").items():
        found.setdefault(int(instances[place].text[:2]), []).append(int(next(iter(labels))))
    return found


def test_by_word_a_word_takes_the_labels_of_one_other_as_frequent(original, shuffle, label_sets):
    original(instances := words())
    shuffle(by="word")
    found = donors(label_sets, instances)
    for word, donor in found.items():
        assert len({*donor}) == 1
        assert donor[0] != word
        assert donor[0] // 10 == word // 10
    assert len({donor[0] for donor in found.values()}) == 40


def test_within_a_stratum_of_the_same_stratum(original, shuffle, label_sets, read):
    original(instances := words(stratum=lambda word: None if word % 2 else "even"))
    shuffle(by="word", within="stratum")
    found = donors(label_sets, instances)
    assert all(donor % 2 == word % 2 and donor != word for word, donors in found.items() for donor in donors)
    assert read("functions", "s0") == read("functions", "original")
    (row,) = read("corpora", "s0")
    assert row["description"] == "labels of original permuted by word within stratum, seed 0"


def test_instances_too_stay_within_their_stratum_and_lose_their_labels(original, shuffle, label_sets):
    original([Instance(f"{index}", {f"a/{index}": True}, stratum=f"{index % 3}") for index in range(30)])
    shuffle(within="stratum")
    found = {place: int(next(iter(labels))) for place, labels in label_sets("s0").items()}
    assert all(label % 3 == place % 3 and label != place for place, label in found.items())


def test_the_word_is_the_lemma_where_there_is_one(original, shuffle, label_sets, read):
    original(instances := words(lemma=lambda word: f"Lemma {word // 2}"))
    shuffle(by="word")
    assert all(donor // 2 != word // 2 for word, donors in donors(label_sets, instances).items() for donor in donors)
    assert read("instances", "s0") == read("instances", "original")
    assert read("instances", "s0")[1]["lemma"] == "Lemma 0"


@pytest.mark.parametrize("by", ["text", "word"])
def test_explicit_functions_keep_their_counts_and_move_by_unit(original, shuffle, read, by):
    original(
        [
            Instance(
                f"{unit % 25:02} abcdef", {"task/one": unit % 3 == 0, f"task/{unit % 2}": unit % 5 == 0}, span, span + 2
            )
            for unit in range(50)
            for span in (range(3) if by == "text" else (0,))
        ],
        "explicit",
    )
    shuffle(by=by)
    assert read("functions", "s0") == read("functions", "original")
    keys = ("instance_id", "family", "function")
    before, after = ([tuple(row[key] for key in keys) for row in read("labels", name)] for name in ("original", "s0"))
    assert after == before


def test_a_word_of_more_than_half_a_stratum_keeps_some_labels_which_is_counted(original, shuffle, read):
    original(
        [
            Instance(f"{'the' if index < 8 else 'a b c'} {index}", {"a/b": index < 5}, 0, 1 + index // 8)
            for index in range(12)
        ],
        "explicit",
    )
    report = shuffle(by="word")
    assert report.dropped == {"instance with labels of its own unit, for want of others": 4}
    assert json.loads(read("corpora", "s0")[0]["dropped"]) == report.dropped


@pytest.mark.parametrize(
    ("instances", "how", "message"),
    [
        (SPANS, {"by": "word"}, "corpus original: 2 of 5 instances are no words but whole texts without a lemma"),
        (words(), {"by": "group"}, "corpus original: no text has a split group; shuffle it by instance, text or word"),
        (SPANS, {"within": "stratum"}, "corpus original: no instance has a stratum; build it anew under another name"),
        (
            words(1) + words(2)[1:],
            {"by": "sentence"},
            "no shuffle by 'sentence'; did you mean 'instance'?",
        ),
        (SPANS, {"within": "half"}, "no shuffle within 'half'; available: stratum"),
    ],
)
def test_what_a_corpus_cannot_be_shuffled_by_is_one_line(original, shuffle, instances, how, message):
    original(instances)
    with pytest.raises((IngestError, UnknownNameError), match=message):
        shuffle(**how)


def test_a_corpus_in_which_no_label_can_move_is_refused(original, shuffle):
    original([Instance(f"bank {index}", {"sense/bank": index < 3}, 0, 4) for index in range(6)], "explicit")
    with pytest.raises(IngestError, match="corpus original: no label can move"):
        shuffle(by="word")


def test_a_corpus_stored_before_there_were_lemmas_and_strata_is_shuffled_by_its_words(
    original, shuffle, store, label_sets
):
    original(instances := words())
    for path in store.files("instances"):
        rows = pq.read_table(path, partitioning=None)
        pq.write_table(rows.drop_columns(["lemma", "stratum"]), path)
    shuffle(by="word")
    assert all(word not in donors for word, donors in donors(label_sets, instances).items())
    with pytest.raises(IngestError, match="no instance has a stratum"):
        shuffle(1, within="stratum")
