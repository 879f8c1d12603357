"""The demo's sentences are a fair test of sensitivity to sense, and read as a corpus."""

import re
from collections import Counter
from importlib import resources
from itertools import combinations
from statistics import mean

import pytest

from neuronlake.demo.corpus import read_word_senses

FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    a about across after all along although among an and any are around as at away be because been before
    behind beside between beyond but by can could did do does down during each every for from had has have he her
    hers him himself his how i if in instead into is it its itself may me more most must my never no nobody not
    nothing of off on one only onto or our out over per she should so some such than that the their them then there
    these they this those through to too toward under unless unlike until up us was we were what when
    where which while who whoever whose why will with within without would you your
    """,
    )
)


def read_rows() -> list[tuple[str, str, str]]:
    lines = resources.files("neuronlake.demo").joinpath("word_senses.tsv").read_text("utf-8").splitlines()
    assert lines[0] == "word\tsense\tsentence"
    return [tuple(line.split("\t")) for line in lines[1:]]


ROWS = read_rows()
SENSES = sorted({(word, sense) for word, sense, _ in ROWS})
PAIRS = [
    pytest.param(word, *sorted(sense for each, sense in SENSES if each == word), id=word)
    for word in sorted({word for word, _ in SENSES})
]


def sentences(word, sense):
    return [sentence for each, other, sentence in ROWS if (each, other) == (word, sense)]


def tokens(sentence):
    return [re.sub(r"'s$", "", token) for token in re.findall(r"[\w'-]+", sentence)]


def content_words(word, sentence):
    return {token.lower() for token in tokens(sentence)} - FUNCTION_WORDS - {word}


def position(word, sentence):
    """Return where the word stands, from 0 (first word) to 1 (last word)."""
    return tokens(sentence).index(word) / (len(tokens(sentence)) - 1)


def test_there_are_16_words_of_2_senses_of_16_sentences():
    words = Counter(word for word, _ in SENSES)
    assert len(words) == 16
    assert set(words.values()) == {2}
    assert set(Counter((word, sense) for word, sense, _ in ROWS).values()) == {16}


def test_rows_are_sorted_by_word_and_sense():
    keys = [(word, sense) for word, sense, _ in ROWS]
    assert keys == sorted(keys)


def test_no_sentence_occurs_twice():
    assert len({sentence.casefold() for _, _, sentence in ROWS}) == len(ROWS)


def test_the_word_occurs_once_in_lower_case_and_in_no_other_word():
    unfit = [
        sentence
        for word, _, sentence in ROWS
        if tokens(sentence).count(word) != 1 or sentence.casefold().count(word) != 1
    ]
    assert not unfit


def test_the_word_never_opens_a_sentence():
    assert not [sentence for word, _, sentence in ROWS if tokens(sentence)[0] == word]


def test_sentences_have_7_to_20_words():
    assert not [sentence for _, _, sentence in ROWS if not 7 <= len(tokens(sentence)) <= 20]


def test_sentences_are_single_and_plainly_punctuated():
    assert not [sentence for _, _, sentence in ROWS if not re.fullmatch(r"[A-Z][\w ,'-]+[.?]", sentence, re.ASCII)]


@pytest.mark.parametrize(("word", "first", "second"), PAIRS)
def test_the_mean_length_of_both_senses_differs_by_less_than_1_5_words(word, first, second):
    lengths = [mean(len(tokens(sentence)) for sentence in sentences(word, sense)) for sense in (first, second)]
    assert abs(lengths[0] - lengths[1]) < 1.5


@pytest.mark.parametrize(("word", "first", "second"), PAIRS)
def test_the_mean_position_of_the_word_differs_by_less_than_a_tenth_of_the_sentence(word, first, second):
    places = [mean(position(word, sentence) for sentence in sentences(word, sense)) for sense in (first, second)]
    assert abs(places[0] - places[1]) < 0.1


@pytest.mark.parametrize(("word", "sense"), SENSES)
def test_no_content_word_occurs_in_more_than_4_sentences_of_a_sense(word, sense):
    counts = Counter(each for sentence in sentences(word, sense) for each in content_words(word, sentence))
    assert not [each for each, count in counts.items() if count > 4]


@pytest.mark.parametrize(("word", "first", "second"), PAIRS)
def test_no_two_sentences_of_a_word_share_half_of_their_content_words(word, first, second):
    contents = [(each, content_words(word, each)) for sense in (first, second) for each in sentences(word, sense)]
    alike = [(a, b) for (a, of_a), (b, of_b) in combinations(contents, 2) if 2 * len(of_a & of_b) >= len(of_a | of_b)]
    assert not alike


def test_every_instance_is_the_word_in_its_sentence_in_the_order_of_the_file():
    instances = list(read_word_senses().instances)
    assert [instance.text for instance in instances] == [sentence for _, _, sentence in ROWS]
    assert [instance.text[instance.start : instance.end] for instance in instances] == [word for word, _, _ in ROWS]


def test_the_first_sense_in_the_alphabet_is_positive_and_the_other_negative():
    labels = {instance.text: instance.labels for instance in read_word_senses().instances}
    assert labels["Has the bank approved your mortgage yet?"] == {"semantic/bank:money-river": True}
    assert labels["An otter slid down the bank and vanished beneath the surface."] == {
        "semantic/bank:money-river": False
    }


def test_each_function_has_16_positive_and_16_explicitly_negative_instances():
    source = read_word_senses()
    counts = Counter(label for instance in source.instances for label in instance.labels.items())
    assert source.negatives == "explicit"
    assert len(counts) == 32
    assert set(counts.values()) == {16}


def test_each_function_is_described_by_its_senses():
    source = read_word_senses()
    assert {label for instance in source.instances for label in instance.labels} == set(source.descriptions)
    assert source.descriptions["semantic/bank:money-river"] == "bank in the sense money, against the sense river"


def test_each_instance_has_an_id_of_its_own():
    ids = [instance.source_id for instance in read_word_senses().instances]
    assert ids[0] == "bank/1"
    assert len(set(ids)) == len(ROWS)
