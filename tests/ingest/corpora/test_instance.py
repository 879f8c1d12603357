from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlake.ingest.corpora.instance import Reading
from neuronlake.ingest.corpora.instance import capped as capped_stream

WORDS = ["ant", "bee", "ape", "bat", "asp", "auk", "boa"]


def first_letter(word):
    return word[0]


def capped(items, cap, *, by, seed):
    return list(capped_stream(items, cap, by=by, seed=seed, reading=Reading(), reason="beyond the cap"))


def test_items_that_are_not_drawn_are_counted_and_those_drawn_are_yielded_at_their_place():
    reading = Reading("words.txt")

    def read():
        for reading.index, word in enumerate(WORDS, start=1):
            yield word

    drawn = capped_stream(read(), 1, by=first_letter, seed=0, reading=reading, reason="beyond the cap")
    places = [(word, reading.place) for word in drawn]
    assert [WORDS.index(word) + 1 for word, _ in places] == [int(place.split()[-1]) for _, place in places]
    assert (len(places), reading.dropped) == (2, {"beyond the cap": 5})


def test_without_a_cap_all_are_kept():
    assert capped(iter(WORDS), None, by=first_letter, seed=0) == WORDS


def test_the_choice_of_one_class_does_not_depend_on_the_others():
    alone = capped([word for word in WORDS if word[0] == "a"], 2, by=first_letter, seed=3)
    assert [word for word in capped(WORDS, 2, by=first_letter, seed=3) if word[0] == "a"] == alone


def test_every_item_is_equally_likely():
    counts = Counter(item for seed in range(2000) for item in capped("abcde", 2, by=lambda _: "", seed=seed))
    assert sum(counts.values()) == 4000
    # 800 expected of each, with a standard deviation of 22.
    assert all(count == pytest.approx(800, abs=110) for count in counts.values())


@given(st.lists(st.sampled_from(WORDS)), st.integers(1, 4), st.integers(0, 5))
def test_a_sample_is_in_order_within_the_cap_and_repeatable(words, cap, seed):
    items = list(enumerate(words))
    kept = capped(items, cap, by=lambda item: item[1][0], seed=seed)
    assert kept == sorted(kept)
    assert kept == capped(items, cap, by=lambda item: item[1][0], seed=seed)
    available = Counter(word[0] for word in words)
    assert Counter(word[0] for _, word in kept) == {letter: min(cap, n) for letter, n in available.items()}
