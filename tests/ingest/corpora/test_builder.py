import dataclasses
import itertools
import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronlake.errors import IngestError, StoreError, UnknownNameError
from neuronlake.ingest.corpora import builder
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Reading, Source
from neuronlake.schema.store import Store

TWO = [
    Instance("a cat", {"task/animal": True}, source_id="one"),
    Instance("a car", {"task/animal": False}, target="vehicle"),
]


def test_texts_instances_labels_and_functions_are_written_as_read(source, built, store, rows):
    report = built(
        source(
            [
                Instance("the cat sat", {"grammar/noun": True, "grammar/word": True}, start=4, end=7, source_id="7"),
                Instance(
                    "the cat sat", {"grammar/verb": True, "grammar/word": True}, 8, 11, lemma="sit", stratum="verb"
                ),
                Instance("ah!", {}, target="oh!", lemma=""),
            ],
            descriptions={"grammar/noun": "names a thing"},
        )
    )
    assert [(row["text_id"], row["text"], row["target"]) for row in rows(store, "texts")] == [
        (0, "the cat sat", None),
        (1, "ah!", "oh!"),
    ]
    columns = ("instance_id", "text_id", "start_char", "end_char", "source_id", "lemma", "stratum")
    assert rows(store, "instances") == [
        dict(zip(columns, (0, 0, 4, 7, "7", None, None), strict=True)),
        dict(zip(columns, (1, 0, 8, 11, None, "sit", "verb"), strict=True)),
        dict(zip(columns, (2, 1, None, None, None, None, None), strict=True)),
    ]
    assert [tuple(row.values()) for row in rows(store, "labels")] == [
        (0, "grammar", "noun", True),
        (0, "grammar", "word", True),
        (1, "grammar", "verb", True),
        (1, "grammar", "word", True),
    ]
    assert [tuple(row.values()) for row in rows(store, "functions")] == [
        ("grammar", "noun", 1, 2, 1 / 3, "rest", "names a thing"),
        ("grammar", "verb", 1, 2, 1 / 3, "rest", None),
        ("grammar", "word", 2, 1, 2 / 3, "rest", None),
    ]
    assert rows(store, "corpora") == [
        {
            "corpus_sha256": report.corpus_sha256,
            "description": "a test",
            "licence": None,
            "source": "test: literals",
            "n_texts": 2,
            "n_instances": 3,
            "dropped": "{}",
        }
    ]
    assert (report.n_texts, report.n_instances, report.n_functions, report.is_new) == (2, 3, 3, True)
    assert store.check() == ()


def test_explicit_labels_keep_their_negatives_and_count_only_what_is_labelled(source, built, store, rows):
    built(
        source(
            [
                Instance("yes", {"task/good": True}),
                Instance("no", {"task/good": False}),
                Instance("what", {}),
            ],
            "explicit",
        )
    )
    assert [row["is_positive"] for row in rows(store, "labels")] == [True, False]
    assert [(row["n_positive"], row["n_negative"]) for row in rows(store, "functions")] == [(1, 1)]


def test_one_function_name_in_two_families_is_two_functions(source, built, store, rows):
    built(source([Instance("x", {"b/f": True, "a/f": True, "a/e": True}), Instance("y", {})]))
    assert [(row["family"], row["function"]) for row in rows(store, "labels")] == [("a", "e"), ("a", "f"), ("b", "f")]


def test_the_first_slash_of_a_label_divides_family_and_function(source, built, store, rows):
    built(source([Instance("x", {"task/sci/tech": True}), Instance("y", {})]))
    assert [(row["family"], row["function"]) for row in rows(store, "functions")] == [("task", "sci/tech")]


def test_texts_of_one_split_group_share_a_half(source, built, store, rows):
    groups = [f"group {index}" for index in range(40)]
    built(
        source(
            Instance(f"{group}, text {index}", {"task/first": index == 0}, split_group=group)
            for group, index in itertools.product(groups, range(3))
        )
    )
    halves = {(row["split_group"], row["half"]) for row in rows(store, "texts")}
    assert len(halves) == 40
    assert {half for _, half in halves} == {"a", "b"}


def test_halves_are_fixed_by_the_text_alone(source, built, store, rows):
    # Literals, because a changed hash would silently move every published split.
    built(source([Instance(word, {"task/short": len(word) < 4}) for word in ("one", "two", "three", "four")]))
    assert {row["text"]: row["half"] for row in rows(store, "texts")} == {
        "one": "a",
        "two": "b",
        "three": "a",
        "four": "a",
    }


def test_the_same_text_in_two_split_groups_is_refused(source, built):
    again = [Instance("x", {"f/g": True}, split_group="one"), Instance("x", {}, start=0, end=1, split_group="two")]
    with pytest.raises(IngestError, match=r"instance 2: this text was read before in another split group.*'two'"):
        built(source(again))


def test_the_same_text_with_another_target_is_another_row(source, built, store, rows):
    built(
        source(
            Instance("2 + 2 =", {"task/right": target == "4"}, target=target) for target in ("3", "4", "5", "4", "5")
        )
    )
    assert [row["target"] for row in rows(store, "texts")] == ["3", "4", "5"]
    assert len({row["half"] for row in rows(store, "texts")}) == 1


def test_an_exact_duplicate_is_dropped_and_counted(source, built, store, rows):
    report = built(source([*TWO, TWO[0]], reading=Reading(dropped=Counter({"too short": 3}))))
    assert report.n_instances == 2
    assert report.dropped == {"duplicate": 1, "too short": 3}
    assert json.loads(rows(store, "corpora")[0]["dropped"]) == report.dropped


def test_of_contradicting_duplicates_the_first_is_kept(source, built, store, rows):
    report = built(source([*TWO, Instance("a cat", {})]))
    assert report.dropped == {"duplicate with contradicting labels": 1}
    assert [row["instance_id"] for row in rows(store, "labels")] == [0]


def test_explicit_duplicates_that_agree_are_merged(source, built, store, rows):
    report = built(
        source(
            [
                Instance("x", {"f/b": True}),
                Instance("y", {"f/a": True, "f/b": False}),
                Instance("x", {"f/a": False, "f/b": True}),
                Instance("x", {"f/a": True}),
            ],
            "explicit",
        )
    )
    assert [tuple(row.values()) for row in rows(store, "labels")] == [
        (0, "f", "a", False),
        (0, "f", "b", True),
        (1, "f", "a", True),
        (1, "f", "b", False),
    ]
    assert report.dropped == {
        "duplicate with contradicting labels": 1,
        "duplicate with further labels, merged into the first": 1,
    }


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (Instance("abc", {}, start=1, end=4), "instance 3: the span 1-4 is not inside the text of 3 characters"),
        (Instance("abc", {}, start=2, end=2), "instance 3: the span 2-2 is not inside"),
        (Instance("abc", {}, start=-1, end=2), "instance 3: the span -1-2 is not inside"),
        (Instance("abc", {}, start=1), r"instance 3: the span has a start \(1\) but no end"),
        (Instance("abc", {}, end=1), r"instance 3: the span has an end \(1\) but no start"),
        (Instance("abc", {"animal": True}), "instance 3: label 'animal' is not of the form family/function"),
        (Instance("abc", {"/animal": True}), "is not of the form family/function"),
        (Instance("abc", {"task/": True}), "is not of the form family/function"),
        (Instance("abc", {"task/*": True}), "stands for all functions of a family"),
        (Instance("abc", {"task/ x": True}), "is not of the form family/function"),
        (Instance("abc", {"task/x\x00": True}), "cannot be printed"),
        (Instance("abc", {"task/x": None}), "instance 3: label 'task/x' is None: true or false is needed"),
        (Instance("abc", {"task/x": 1}), "instance 3: label 'task/x' is 1: true or false is needed"),
        (
            Instance("abc", ["task/x"]),
            r"instance 3: labels \['task/x'\]: a mapping of family/function to true or false",
        ),
        (Instance(None, {}), "instance 3: text None is no text"),
        (Instance("abc", {}, source_id=7), "instance 3: source_id 7 is no text"),
        (Instance("abc \ud83d", {}), "instance 3: text holds half a surrogate pair"),
        (Instance("abc", {}, target="\ud83d"), "instance 3: target holds half a surrogate pair"),
    ],
)
def test_a_bad_instance_is_refused_and_the_store_is_unchanged(source, built, store, instance, message):
    with pytest.raises(IngestError, match=message):
        built(source([*TWO, instance]))
    assert not store.path.exists()


def test_negatives_of_another_name_are_refused(source, built, store):
    with pytest.raises(UnknownNameError, match="no negatives 'Rest'"):
        built(dataclasses.replace(source(TWO), negatives="Rest"))
    assert not store.path.exists()


def test_an_error_names_where_the_reader_stands(source, built):
    reading = Reading("mine.csv", unit="line")

    def instances():
        for reading.index, label in enumerate(("f/a", "f/b", "f"), start=2):
            yield Instance("a", {label: True})

    with pytest.raises(IngestError, match=r"^mine.csv, line 4: label 'f' is not of the form family/function"):
        built(source(instances(), reading=reading))


def test_empty_texts_are_left_out_and_counted_up_to_one_in_a_hundred(source, built, store, rows):
    texts = [f"text {index}" for index in range(198)]
    report = built(source(Instance(text, {"f/first": text == "text 0"}) for text in ["", *texts, " \n\t"]))
    assert (report.n_instances, report.dropped) == (198, {"empty text": 2})
    assert rows(store, "texts")[0]["text"] == "text 0"


def test_one_empty_text_is_forgiven_and_two_of_a_few_are_refused_with_the_first(source, tmp_path):
    def report(*texts):
        read = source(Instance(text, {"f/first": text == "one"}) for text in ("one", *texts, "two"))
        return build_corpus(read, "test", store=tmp_path / "store")

    assert report("").dropped == {"empty text": 1}
    message = (
        r"test: literals: 2 of 4 instances say nothing, more than 1% \(empty text: 2\); .* instance 2: empty text$"
    )
    with pytest.raises(IngestError, match=message):
        report("", " ")


def test_a_readers_own_defects_count_with_empty_texts(source, built):
    reading = Reading("mine.csv", unit="line", index=2)
    reading.add_defect("no subject")
    with pytest.raises(
        IngestError, match=r"2 of 4 .*\(empty text: 1, no subject: 1\); the first at mine.csv, line 2: no"
    ):
        built(source([*TWO, Instance("", {})], reading=reading))


def test_functions_of_one_class_are_refused_by_name(source, built, store):
    labels = {"task/all": True, "task/some": True, "task/none": False}
    with pytest.raises(
        IngestError, match=r"task/all \(2 positive, 0 negative\), task/none \(0 positive, 2 negative\)$"
    ):
        built(source([Instance("a", labels), Instance("b", labels | {"task/some": False})]))
    assert not store.path.exists()


def test_an_empty_source_is_refused(source, built):
    with pytest.raises(IngestError, match=r"test: literals: no instances \(2 excluded: too long\)"):
        built(source([], reading=Reading(dropped=Counter({"too long": 2}))))


def test_a_source_without_labels_is_refused(source, built):
    with pytest.raises(IngestError, match="no instance has a label"):
        built(source([Instance("a", {}), Instance("b", {})]))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ümlaut", "a\n", "a" * 300])
def test_a_corpus_name_of_other_characters_is_refused(source, store, name):
    with pytest.raises(IngestError, match="use letters, digits"):
        build_corpus(source(TWO), name, store=store.path)


def test_a_description_and_a_licence_given_replace_those_of_the_source(source, store, rows):
    build_corpus(source(TWO), "own", store=store.path)
    build_corpus(source(TWO), "given", store=store.path, description="mine", licence="CC0")
    said = sorted((row["description"], row["licence"]) for row in rows(store, "corpora"))
    assert said == [("a test", None), ("mine", "CC0")]


def test_the_same_corpus_again_changes_nothing(source, built, store):
    first = built(source(TWO))
    before = sorted(path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file())
    again = built(source(TWO))
    assert (again.corpus_sha256, first.is_new, again.is_new) == (first.corpus_sha256, True, False)
    assert sorted(path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()) == before


def test_a_report_describes_what_was_built_and_left_out(source, built):
    built(source([*TWO, TWO[0]]))
    assert built(source([*TWO, TWO[0]])).describe() == (
        "corpus test: 2 instances of 2 texts, 1 function; already in the store, nothing done\n        1  duplicate"
    )


def test_another_corpus_under_the_same_name_is_refused(source, built):
    built(source(TWO))
    with pytest.raises(StoreError, match=r"corpus 'test' in .* holds other content"):
        built(source([*TWO, Instance("a dog", {"task/animal": True})]))


@pytest.mark.parametrize(
    "changed",
    [
        Instance("a car", {"task/animal": False}, target="machine"),
        Instance("a car", {"task/animal": False}, target="vehicle", split_group="cars"),
        Instance("a car", {"task/animal": False}, target="vehicle", source_id="two"),
        Instance("a car", {"task/animal": False}, target="vehicle", start=0, end=5),
        Instance("a cat.", {"task/animal": False}, target="vehicle"),
        Instance("a car", {"task/animal": False, "task/noun": True}, target="vehicle"),
    ],
)
def test_the_digest_sees_every_change(source, tmp_path, changed):
    one = build_corpus(source(TWO), "test", store=tmp_path / "one")
    two = build_corpus(source([TWO[0], changed]), "test", store=tmp_path / "two")
    assert one.corpus_sha256 != two.corpus_sha256


def test_the_digest_tells_rest_from_explicit(source, tmp_path):
    labelled = [Instance("a", {"f/g": True}), Instance("b", {"f/g": False})]
    digests = {
        build_corpus(source(labelled, negatives), negatives, store=tmp_path / negatives).corpus_sha256
        for negatives in ("rest", "explicit")
    }
    assert len(digests) == 2


def test_parts_do_not_change_the_digest(source, tmp_path, monkeypatch, rows):
    many = [Instance(f"text {index}", {"f/even": index % 2 == 0}) for index in range(10)]
    whole = build_corpus(source(many), "test", store=tmp_path / "whole")
    monkeypatch.setattr(builder, "_PART_ROWS", 3)
    parted = build_corpus(source(many), "test", store=tmp_path / "parted")
    assert parted.corpus_sha256 == whole.corpus_sha256
    assert len(Store(tmp_path / "parted").files("texts")) == 4
    assert rows(Store(tmp_path / "parted"), "texts") == rows(Store(tmp_path / "whole"), "texts")


_TEXTS = st.sampled_from(["ab", "ba", "aab", "ünï", "b a"])
_INSTANCES = st.builds(
    lambda text, labels, span: Instance(text, labels, *(span if span and span[1] <= len(text) else (None, None))),
    _TEXTS,
    st.dictionaries(st.sampled_from(["f/x", "f/y", "g/x"]), st.booleans()),
    st.sampled_from([None, (0, 1), (0, 2), (1, 2), (1, 3)]),
)
_ANCHORS = [
    Instance("anchor one", {"f/x": True, "f/y": True, "g/x": True}),
    Instance("anchor two", {"f/x": False, "f/y": False, "g/x": False}),
]


@given(st.lists(_INSTANCES, max_size=30))
@settings(max_examples=40, deadline=None)
def test_what_was_built_reads_back_as_it_was_given(tmp_path_factory, instances):
    store = Store(tmp_path_factory.mktemp("property") / "store")
    given_instances = [*_ANCHORS, *instances]

    def stream() -> Source:
        return Source(given_instances, "property", None, "property", "explicit")

    report = build_corpus(stream(), "p", store=store.path)
    assert build_corpus(stream(), "p", store=store.path).corpus_sha256 == report.corpus_sha256
    # The first of each text and span, with what later ones add unless they contradict.
    expected: dict[tuple, dict[str, bool]] = {}
    for each in given_instances:
        held = expected.setdefault((each.text, each.start, each.end), {})
        if all(held.get(label, value) == value for label, value in each.labels.items()):
            held |= each.labels
    tables = {}
    for name in ("texts", "instances", "labels"):
        tables[name] = [row for path in store.files(name) for row in pq.read_table(path).to_pylist()]
    texts = [row["text"] for row in tables["texts"]]
    found = {
        (texts[row["text_id"]], row["start_char"], row["end_char"]): {
            f"{label['family']}/{label['function']}": label["is_positive"]
            for label in tables["labels"]
            if label["instance_id"] == row["instance_id"]
        }
        for row in tables["instances"]
    }
    assert list(found.items()) == list(expected.items())
    assert texts == list(dict.fromkeys(each.text for each in given_instances))
    assert report.n_instances + sum(report.dropped.values()) == len(given_instances)


def test_a_corpus_that_gains_lemmas_and_strata_is_the_same_and_is_told_to_take_another_name(source, built, store):
    plain = built(source(TWO, "explicit"))
    assert (
        plain.corpus_sha256 == "205905513bf903c2b734f5db201725e1a28c1705dd5e983d77ac0fca5ffe7594"
    )  # as before there were any
    richer = [dataclasses.replace(instance, lemma="it", stratum="noun") for instance in TWO]
    again = built(source(richer, "explicit"))
    assert (again.corpus_sha256, again.is_new) == (plain.corpus_sha256, False)
    assert again.dropped == {"lemma or stratum that is not stored: add it under another name": 4}
    new = build_corpus(source(richer, "explicit"), "richer", store=store.path)
    assert (new.corpus_sha256, new.dropped) == (plain.corpus_sha256, {})
