"""Halves by text and by word: what is learned of words alone does not carry over to other words."""

import random
import re
from types import SimpleNamespace

import numpy as np
import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Settings
from neuronlake.queries.database import Database

BY_WORD = Settings(halves="word")


def spans_of(text: str, labels) -> list[Instance]:
    """Return every word of a text as an instance with the labels that a function gives its casefolded form."""
    instances, start = [], 0
    for word in text.split():
        instances.append(Instance(text, labels(word.casefold()), start, start + len(word)))
        start += len(word) + 1
    return instances


@pytest.fixture
def mixed(store, make_corpus) -> tuple[StoredCorpus, list[Instance]]:
    """Return a corpus of 40 texts, each a whole text with four of its words, in capitals or not."""
    draw, names = random.Random(3), [f"word{number}" for number in range(30)]
    instances = []
    for _ in range(40):
        text = " ".join(draw.choice([str.upper, str])(word) for word in draw.sample(names, 4))
        instances += [Instance(text, {"f/whole": draw.random() < 0.5})]
        instances += spans_of(text, lambda word: {"f/long": len(word) > 5, "f/any": draw.random() < 0.5})
    make_corpus(store, instances)
    return StoredCorpus(store, "test"), instances


def halves(corpus: StoredCorpus, halves: str) -> np.ndarray:
    """Return the half of every instance, by its id."""
    stored = corpus.instances()
    index = corpus.label_index(stored.instance_id, halves)
    half = np.zeros(len(index.half), np.uint8)
    half[stored.instance_id] = index.half
    return half


def test_no_word_is_in_both_halves_and_whole_texts_stay_where_they_are(mixed):
    corpus, instances = mixed
    by_text, by_word = halves(corpus, "text"), halves(corpus, "word")
    where: dict[str, set[int]] = {}
    for instance, half in zip(instances, by_word, strict=True):
        if instance.start is not None:
            where.setdefault(instance.text[instance.start : instance.end].casefold(), set()).add(int(half))
    assert all(len(of_word) == 1 for of_word in where.values())
    assert {half for of_word in where.values() for half in of_word} == {0, 1}
    is_whole = np.array([instance.start is None for instance in instances])
    assert (by_word[is_whole] == by_text[is_whole]).all()
    assert (by_word[~is_whole] != by_text[~is_whole]).any()


def test_the_half_of_a_word_is_the_same_in_any_corpus(mixed, store, make_corpus):
    corpus, instances = mixed
    half = halves(corpus, "word")
    of_word = {one.text[one.start : one.end].casefold(): of for one, of in zip(instances, half, strict=True) if one.end}
    words = sorted(of_word)
    again = [Instance(f"the {word}", {"f/g": index % 2 == 0}, 4, None) for index, word in enumerate(words)]
    again = [Instance(one.text, one.labels, 4, len(one.text)) for one in again]
    make_corpus(store, again, name="again")
    assert halves(StoredCorpus(store, "again"), "word").tolist() == [of_word[word] for word in words]


def test_whole_texts_alone_are_refused(store, make_corpus, whole_texts, tiny_model):
    make_corpus(store, whole_texts, negatives="explicit")
    with pytest.raises(IngestError, match="halves by word need spans, and corpus test has whole texts alone"):
        ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, settings=BY_WORD)


@pytest.fixture(scope="module")
def control(tmp_path_factory, make_corpus, tiny_model):
    """Measure sets of words drawn at random, by both halves: the database, and what was noted of words."""
    from neuronlake.schema.store import Store

    store, draw = Store(tmp_path_factory.mktemp("control") / "store"), random.Random(11)
    words = sorted({"".join(draw.choices("bdfgklmnprstvz", k=4)) for _ in range(50)})
    drawn = {f"control/{place}": {word for word in words if draw.random() < 0.5} for place in range(12)}
    drawn["control/one-word"] = {words[0]}
    instances = []
    for _ in range(240):
        text = " ".join(draw.sample(words, 5))
        instances += spans_of(text, lambda word: {name: word in of for name, of in drawn.items()})
    make_corpus(store, instances)
    notes: list[str] = []
    progress = SimpleNamespace(phase=lambda *_, **__: None, advance=lambda *_: None, note=notes.append)
    for settings in (Settings(), BY_WORD):
        ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, settings=settings, progress=progress)
    return Database(store.path), notes


def test_random_sets_of_words_replicate_on_other_texts_and_fall_to_chance_on_other_words(control):
    database, _ = control
    query = """
        select halves, avg(best_lift), avg(held_out_lift)
        from best_predictivity inner join runs using (run_id)
        where family = 'control' group by halves order by halves
    """
    (_, best, on_texts), (_, best_again, on_words) = database.sql(query).rows()
    assert best == pytest.approx(best_again)
    assert on_texts > 0.7 * best > 0.1
    assert abs(on_words) < 0.2 * on_texts


def test_what_halves_by_word_cover_is_told(control):
    database, notes = control
    query = """
        select halves, n_positive_half_a, n_positive_half_b from run_functions inner join runs using (run_id)
        where function = 'one-word'
    """
    rows = {row[0]: row[1:] for row in database.sql(query).rows()}
    assert min(rows["text"]) > 0
    assert min(rows["word"]) == 0
    (note,) = (note for note in notes if note.startswith("halves by word: "))
    assert "12 of 13 functions have both classes in both" in note
    (few,) = (note for note in notes if "fewer than 5" in note)
    assert re.match(r"1 of 13 functions have .*: control/one-word \((0, \d+; \d+, \d+|\d+, \d+; 0, \d+)\); --min", few)
