from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from neuronlake.ingest.corpora.instance import Instance, Reading
from neuronlake.ingest.corpora.readers.facts import Relation, fact_instances

CAPITAL = Relation("capital", "The capital of [X] is [Y].")
BORDER = Relation("border", "[X] borders [Y].", is_symmetric=True)


def read(relation, facts, cap=None, seed=0):
    reading = Reading()
    return list(fact_instances(relation, facts, cap=cap, seed=seed, reading=reading)), +reading.dropped


def test_a_fact_is_followed_by_the_same_subject_with_a_wrong_object():
    instances, dropped = read(CAPITAL, [("France", "Paris"), ("Peru", "Lima")])
    assert instances == [
        Instance("The capital of France is Paris.", {"knowledge/capital": True}, split_group="France"),
        Instance("The capital of France is Lima.", {"knowledge/capital": False}, split_group="France"),
        Instance("The capital of Peru is Lima.", {"knowledge/capital": True}, split_group="Peru"),
        Instance("The capital of Peru is Paris.", {"knowledge/capital": False}, split_group="Peru"),
    ]
    assert not dropped


def test_a_template_may_name_the_object_first_and_names_may_hold_brackets():
    relation = Relation("capital", "[Y] is the capital of [X].")
    assert relation.sentence("[Y]land", "[X]ville") == "[X]ville is the capital of [Y]land."


def test_a_fact_is_dropped_where_every_object_is_true():
    instances, dropped = read(CAPITAL, [("Bolivia", "Sucre"), ("Bolivia", "La Paz"), ("Peru", "Sucre")])
    assert {each.split_group for each in instances} == {"Peru"}
    assert dropped == {"fact without a wrong object to set against it": 2}


def test_a_fact_stated_twice_counts_once():
    assert read(CAPITAL, [("a", "b"), ("c", "d"), ("a", "b")])[1] == {"fact stated twice": 1}


def test_a_symmetric_fact_counts_once_and_is_true_in_both_directions():
    instances, dropped = read(BORDER, [("a", "b"), ("b", "a"), ("c", "d")])
    assert dropped == {"fact stated twice": 1}
    assert {each.text for each in instances if each.labels["knowledge/border"]} == {"a borders b.", "c borders d."}
    for seed in range(20):
        false = [each.text for each in read(BORDER, [("a", "b"), ("b", "c"), ("c", "d")], seed=seed)[0]][1::2]
        assert not {"a borders b.", "b borders a.", "b borders c.", "c borders b.", "c borders c."} & set(false)


def test_a_cap_leaves_out_facts_but_draws_wrong_objects_from_all():
    facts = [(f"country {index}", f"city {index}") for index in range(50)]
    instances, dropped = read(CAPITAL, facts, cap=5)
    assert (len(instances), dropped) == (10, {"fact beyond the cap": 45})


def test_wrong_objects_are_drawn_as_often_as_they_occur():
    facts = [(f"jazz player {index}", "jazz") for index in range(60)]
    facts += [(f"other {index}", genre) for index, genre in enumerate(["rock"] * 30 + ["polka"] * 3)]
    wrong = Counter(each.text.split()[-1] for each in read(Relation("genre", "[X] plays [Y]"), facts)[0][1:120:2])
    assert wrong["rock"] > 5 * wrong["polka"]


_NAMES = st.sampled_from("abcdef")


@given(st.lists(st.tuples(_NAMES, _NAMES), max_size=20), st.booleans(), st.integers(0, 3))
def test_no_sentence_is_both_true_and_false_and_classes_are_balanced(facts, is_symmetric, seed):
    relation = Relation("r", "[X] [Y]", is_symmetric)
    instances, _ = read(relation, facts, seed=seed)
    true = [each.text for each in instances if each.labels["knowledge/r"]]
    false = [each.text for each in instances if not each.labels["knowledge/r"]]
    stated = {f"{subject} {object_}" for subject, object_ in facts}
    stated |= {f"{object_} {subject}" for subject, object_ in facts} if is_symmetric else set()
    assert set(true) <= stated
    assert not set(false) & stated
    assert len(true) == len(false) == len({*true, *false}) / 2
