"""Special tokens of whole texts: dropped, or pooled as in the paper's code."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from neuronlake.errors import IngestError, UnknownNameError
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Settings

KEEP = Settings(special_tokens="keep", n_top=40)


@pytest.fixture(scope="module")
def seen(tiny_model, whole_texts) -> list[np.ndarray]:
    """Return what enters the down projections of a tiny T5's first layer: for each text [tokens, neurons]."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = tiny_model("t5")
    model, tokenizer, seen = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder), []
    down = model.get_submodule("encoder.block.0.layer.1.DenseReluDense.wo")
    down.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].numpy().copy()))
    for instance in whole_texts:
        ids = tokenizer(instance.text)["input_ids"]
        assert ids[-1] == tokenizer.eos_token_id
        with torch.no_grad():
            model.encoder(torch.tensor([ids]))
    return seen


@pytest.mark.parametrize("special_tokens", ["keep", "drop"])
def test_the_closing_token_of_t5_counts_where_it_is_kept(
    store, tiny_model, make_corpus, whole_texts, read_rows, seen, special_tokens
):
    make_corpus(store, whole_texts, negatives="explicit")
    settings = dataclasses.replace(KEEP, special_tokens=special_tokens)
    ingest_model(str(tiny_model("t5")), corpus="test", store=store.path, settings=settings)
    (run,) = read_rows(store, "runs")
    assert run["special_tokens"] == special_tokens
    n_closing = 0 if special_tokens == "keep" else 1
    expected = np.array([values[: len(values) - n_closing].max(0) for values in seen]).T  # [neurons, instances]
    other = np.array([values[: len(values) - (1 - n_closing)].max(0) for values in seen]).T
    assert (expected != other).mean() > 0.02  # or the test shows nothing
    rows = [row for row in read_rows(store, "top_instances") if row["layer"] == 0]
    assert len(rows) > 64 * 10
    found = np.array([row["value"] for row in rows])
    at = tuple(np.array([[row["neuron"], row["instance_id"]] for row in rows]).T)
    np.testing.assert_allclose(found, expected[at], rtol=1e-4, atol=1e-5)


@pytest.fixture
def measure(store, tiny_model, make_corpus):
    """Return a function that measures instances with special tokens kept, and returns what was noted."""

    def run(kind: str, instances: list[Instance], settings: Settings = KEEP) -> list[str]:
        make_corpus(store, instances)
        notes: list[str] = []
        progress = SimpleNamespace(phase=lambda *_, **__: None, advance=lambda *_: None, note=notes.append)
        ingest_model(str(tiny_model(kind)), corpus="test", store=store.path, settings=settings, progress=progress)
        return notes

    return run


def test_spans_have_no_special_tokens_and_that_is_said(measure, spans):
    n_whole = sum(instance.start is None for instance in spans)
    note = f"special tokens count in {n_whole} of {len(spans)} instances: a span has none"
    assert note in measure("bert", spans)


def test_to_keep_what_spans_do_not_have_is_refused(measure):
    instances = [Instance(text, {"f/g": "cat" in text}, 0, 3) for text in ("cat sat", "dog ran", "red bird")]
    with pytest.raises(
        IngestError, match="special_tokens keep measures what drop does, for corpus test has spans alone"
    ):
        measure("t5", instances)


def test_to_keep_what_the_tokenizer_does_not_add_is_refused(measure, tiny_model, tmp_path):
    from tokenizers import processors
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model("gpt2"))
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save_pretrained(tmp_path)
    instances = [Instance(text, {"f/g": "cat" in text}) for text in ("cat sat", "dog ran", "red bird")]
    with pytest.raises(IngestError, match="what drop does, for the tokenizer puts none around a text"):
        measure("gpt2", instances, dataclasses.replace(KEEP, tokenizer=str(tmp_path)))


def test_another_choice_is_refused_by_name():
    with pytest.raises(UnknownNameError, match="special_tokens"):
        Settings(special_tokens="all")


def test_settings_added_later_are_part_of_a_definition_where_they_are_not_at_their_defaults():
    assert {"special_tokens", "halves"}.isdisjoint(Settings().definition())
    assert Settings().definition()["layers"] is None
    changed = Settings(special_tokens="keep", halves="word").definition()
    assert (changed["special_tokens"], changed["halves"]) == ("keep", "word")
