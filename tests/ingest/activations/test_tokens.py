"""Spans of characters as spans of tokens, and the batches they run in."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronlake.errors import IngestError
from neuronlake.ingest.activations import tokens as tokens_module
from neuronlake.ingest.activations.tokens import TokenizedCorpus, tokenize
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.stored import StoredCorpus


@pytest.fixture
def tokenized(store, tiny_model, make_corpus):
    """Return a function that tokenizes spans of texts with a tiny model's tokenizer."""
    from transformers import AutoTokenizer

    def run(kind, spans, *, max_tokens=60):
        instances = [
            Instance(text, {"f/g": index % 2 == 0}, start=span[0] if span else None, end=span[1] if span else None)
            for index, (text, span) in enumerate(spans)
        ]
        make_corpus(store, [*instances, Instance("dog", {"f/g": True}), Instance("fish", {"f/g": False})])
        tokenizer = AutoTokenizer.from_pretrained(tiny_model(kind))
        return tokenize(StoredCorpus(store, "test"), tokenizer, max_tokens=max_tokens), tokenizer

    return run


def pieces(found: TokenizedCorpus, tokenizer, instance_id: int) -> list[str] | None:
    """Return the tokens of an instance, None if it was dropped."""
    places = np.flatnonzero(found.instance_id == instance_id)
    if not len(places):
        return None
    (place,) = places
    begin = found.token_start[found.text[place]]
    return tokenizer.convert_ids_to_tokens(found.token_ids[begin + found.start[place] : begin + found.stop[place]])


TEXT = "The cat sat, naïve 你好 🙂 xyz"


@pytest.mark.parametrize(
    ("kind", "span", "expected"),
    [
        ("bert", (0, 12), ["the", "cat", "sat", ","]),
        ("bert", (4, 7), ["cat"]),
        ("bert", (5, 6), ["cat"]),
        ("bert", (6, 9), ["cat", "sat"]),
        ("bert", (11, 12), [","]),
        ("bert", (19, 20), ["你"]),
        ("bert", (19, 21), ["你", "好"]),
        ("bert", (24, 27), ["x", "##y", "##z"]),
        ("bert", (25, 26), ["##y"]),
        ("llama", (4, 7), ["Ġcat"]),
        ("llama", (0, 3), ["T", "he"]),
        ("llama", (15, 16), ["Ã", "¯"]),
        ("llama", (20, 21), ["å", "¥", "½"]),
        ("llama", (22, 23), ["ð", "Ł", "Ļ", "Ĥ"]),
        ("llama", (21, 23), ["Ġ", "ð", "Ł", "Ļ", "Ĥ"]),
        ("t5", (4, 7), ["▁cat"]),
        ("t5", (19, 20), ["<unk>"]),
        ("t5", (26, 27), ["z"]),
    ],
)
def test_a_span_is_the_tokens_that_overlap_it(tokenized, kind, span, expected):
    found, tokenizer = tokenized(kind, [(TEXT, span)])
    assert pieces(found, tokenizer, 0) == expected


@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_every_span_of_one_character_agrees_with_the_offsets(tokenized, kind):
    spans = [(TEXT, (start, start + 1)) for start in range(len(TEXT))]
    found, tokenizer = tokenized(kind, spans)
    encoded = tokenizer(TEXT, return_offsets_mapping=True, return_special_tokens_mask=True)
    for index, (_, (start, end)) in enumerate(spans):
        expected = [
            token
            for token, (first, last), special in zip(
                tokenizer.convert_ids_to_tokens(encoded["input_ids"]),
                encoded["offset_mapping"],
                encoded["special_tokens_mask"],
                strict=True,
            )
            if not special and first < end and last > start
        ]
        assert pieces(found, tokenizer, index) == (expected or None), TEXT[start:end]


def test_special_tokens_belong_to_no_instance(tokenized):
    found, tokenizer = tokenized("bert", [("the cat", None), ("the cat", (0, 7))])
    assert pieces(found, tokenizer, 0) == pieces(found, tokenizer, 1) == ["the", "cat"]


def test_special_tokens_written_out_in_a_text_belong_to_it(tokenized):
    found, tokenizer = tokenized("bert", [("the [SEP] cat", None), ("the [SEP] cat", (10, 13))])
    assert pieces(found, tokenizer, 0) == ["the", "[SEP]", "cat"]
    assert pieces(found, tokenizer, 1) == ["cat"]


def test_a_text_that_is_cut_is_counted_and_spans_beyond_the_cut_are_dropped(tokenized):
    text = "the cat sat on the mat"
    found, tokenizer = tokenized(
        "bert", [(text, None), (text, (4, 7)), (text, (4, 22)), (text, (19, 22))], max_tokens=5
    )
    assert (found.n_truncated, found.n_dropped) == (1, 1)
    assert pieces(found, tokenizer, 0) == ["the", "cat", "sat"]
    assert pieces(found, tokenizer, 1) == ["cat"]
    assert pieces(found, tokenizer, 2) == ["cat", "sat"]
    assert pieces(found, tokenizer, 3) is None


def test_a_text_of_exactly_the_limit_is_not_cut(tokenized):
    found, _ = tokenized("bert", [("the cat sat", None)], max_tokens=5)
    assert found.n_truncated == 0


def test_characters_the_tokenizer_ignores_are_dropped(tokenized):
    found, tokenizer = tokenized("bert", [("the \x07 cat", (4, 5)), ("\x07", None), ("the \x07 cat", (4, 9))])
    assert found.n_dropped == 2
    assert pieces(found, tokenizer, 2) == ["cat"]


@pytest.mark.parametrize("max_tokens", [0, 1, 2])
def test_a_limit_that_leaves_no_content_is_one_clear_line(tokenized, max_tokens):
    with pytest.raises(IngestError, match=rf"cut at {max_tokens} tokens|max_tokens"):
        tokenized("bert", [("the cat", None)], max_tokens=max_tokens)


def test_instances_lie_in_the_order_of_their_texts_longest_first(tokenized):
    found, _ = tokenized(
        "bert", [("cat", None), ("the cat sat on", (4, 7)), ("cat dog", None), ("the cat sat on", None)]
    )
    lengths = np.diff(found.token_start)
    assert lengths[found.order].tolist() == sorted(lengths.tolist(), reverse=True)
    assert found.instance_id.tolist()[:2] == [1, 3]
    assert found.n_tokens == lengths.sum()


def test_tokenizing_in_pieces_changes_nothing(tokenized, monkeypatch):
    spans = [(" ".join(["cat"] * n), (0, 3)) for n in range(1, 9)]
    whole, _ = tokenized("bert", spans)
    monkeypatch.setattr(tokens_module, "_TOGETHER", 3)
    pieces, _ = tokenized("bert", spans)
    for field in dataclasses.fields(TokenizedCorpus):
        assert np.array_equal(getattr(whole, field.name), getattr(pieces, field.name)), field.name


def corpus_of(lengths: list[int], n_instances: list[int]) -> TokenizedCorpus:
    """Return texts of given lengths with given numbers of instances."""
    order = np.argsort(-np.array(lengths), kind="stable")
    text = np.repeat(order, np.array(n_instances)[order])
    return TokenizedCorpus(
        token_ids=np.zeros(sum(lengths), np.int32),
        token_start=np.concatenate([[0], np.cumsum(lengths)]),
        order=order,
        instance_id=np.arange(len(text)),
        text=text,
        start=np.zeros(len(text), np.int32),
        stop=np.ones(len(text), np.int32),
        n_truncated=0,
        n_dropped=0,
        n_special=0,
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3)), min_size=1, max_size=30), st.integers(1, 100))
def test_batches_keep_to_the_budget_and_cover_everything_once(texts, budget):
    lengths, n_instances = zip(*texts, strict=True)
    corpus = corpus_of(list(lengths), list(n_instances))
    batches = list(corpus.batches(budget))
    assert sorted(np.concatenate([batch.texts for batch in batches]).tolist()) == list(range(len(texts)))
    covered = [index for batch in batches for index in range(batch.first, batch.last)]
    assert covered == list(range(len(corpus.text)))
    for batch in batches:
        padded = len(batch.texts) * max(lengths[text] for text in batch.texts)
        assert padded <= budget or len(batch.texts) == 1
        assert set(corpus.text[batch.first : batch.last].tolist()) <= set(batch.texts.tolist())


def test_texts_come_in_order_from_a_corpus_of_many_files(store, make_corpus, monkeypatch):
    from neuronlake.ingest.corpora import builder

    monkeypatch.setattr(builder, "_PART_ROWS", 1)
    texts = [f"text number {index}" for index in range(14)]
    make_corpus(store, [Instance(text, {"f/g": index % 3 == 0}) for index, text in enumerate(texts)])
    assert len(store.files("texts")) > 10
    assert list(StoredCorpus(store, "test").texts()) == texts


def test_a_corpus_that_is_not_there_is_refused_with_those_that_are(store, make_corpus):
    make_corpus(store, [Instance("the cat", {"f/g": True}), Instance("the dog", {"f/g": False})], name="semcor")
    with pytest.raises(LookupError, match=r"no corpus 'semco' in .*; did you mean 'semcor'"):
        StoredCorpus(store, "semco")


def test_labels_follow_the_instances_asked_for(store, make_corpus):
    instances = [Instance(f"text {index}", {"f/g": index in (1, 2)}) for index in range(5)]
    make_corpus(store, instances)
    corpus = StoredCorpus(store, "test")
    index = corpus.label_index(np.array([4, 2, 0, 1]))
    assert index.indptr.tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(IngestError, match=r"of 3 measured instances, 0 are positive and 3 negative for f/g"):
        corpus.label_index(np.array([4, 3, 0]))
