"""What a tokenizer's files say beside how text becomes tokens changes nothing; what a model cannot read is refused."""

import json
import shutil

import pytest

from neuronlake.errors import IngestError
from neuronlake.ingest.activations.tokens import collate
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.measurement import load_requested, prepare
from neuronlake.ingest.jobs.settings import Request, Settings
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.loading import quietly
from neuronlake.ingest.models.model import load, start_token
from neuronlake.ingest.models.tokenizers import encode
from neuronlake.progress import SilentProgress

TEXTS = ("the cat sat on the mat", "dog", "red </s> house", "a quick bird flew over the old river")


@pytest.fixture
def changed(tiny_model, tmp_path):
    """Return a function that copies a tiny model and changes its tokenizer's files."""

    def change(kind="llama", *, backend=lambda _: None, **config):
        folder = tmp_path / "changed"
        shutil.copytree(tiny_model(kind), folder, dirs_exist_ok=True)
        for name, edit in (("tokenizer.json", backend), ("tokenizer_config.json", lambda file: file.update(config))):
            content = json.loads((folder / name).read_text())
            edit(content)
            (folder / name).write_text(json.dumps(content))
        return folder

    return change


@pytest.fixture
def prepared(store, make_corpus):
    """Return a function that prepares the measurement of a folder on four texts under one name."""

    def run(folder, *, targets=False, **settings):
        make_corpus(store, [Instance(text, {"f/g": len(text) > 6}, target=text if targets else None) for text in TEXTS])
        request = Request(Checkpoint(str(folder), name="m"), StoredCorpus(store, "test"), Settings(**settings))
        return prepare(request, load_requested(request), SilentProgress())

    return run


def truncation(side):
    return {"direction": side, "max_length": 4, "strategy": "LongestFirst", "stride": 2}


def padding(side):
    return {
        "strategy": {"Fixed": 30}, "direction": side, "pad_to_multiple_of": 8, "pad_id": 1, "pad_type_id": 0,
        "pad_token": "<pad>",
    }  # fmt: skip


STATES = {
    "truncation": {"backend": lambda content: content.update(truncation=truncation("Right"))},
    "truncation on the left": {"backend": lambda content: content.update(truncation=truncation("Left"))},
    "padding": {"backend": lambda content: content.update(padding=padding("Left"))},
    "merges dropped at random": {"backend": lambda content: content["model"].update(dropout=0.9)},
    "sides": {"truncation_side": "left", "padding_side": "left"},
    "special tokens split": {"split_special_tokens": True},
    "no longest text": {"model_max_length": 0},
    "a longest text that is no number": {"model_max_length": True},
    "a negative longest text": {"model_max_length": -1},
    "an endless longest text": {"model_max_length": 1e30},
    "spaces cleaned up": {"clean_up_tokenization_spaces": True},
    "a padding token without an embedding": {"pad_token": "[PAD]"},
}


@pytest.mark.parametrize("state", STATES)
def test_what_a_tokenizer_s_files_say_beside_its_tokens_changes_nothing(tiny_model, changed, prepared, state):
    # Seven tokens a text, so that some are cut: what is kept is where a text begins.
    plain = prepared(tiny_model("llama"), max_tokens=7)
    found = prepared(changed(**STATES[state]), max_tokens=7)
    assert found.run_id == plain.run_id
    assert (found.tokens.n_truncated, plain.tokens.n_truncated) == (2, 2)


def test_a_longest_text_of_a_tokenizer_s_files_is_kept(changed, prepared):
    assert prepared(changed(model_max_length=5)).settings.max_tokens == 5


def test_padding_without_an_embedding_is_filled_with_a_token_that_has_one(changed, prepared):
    measurement = prepared(changed(pad_token="[PAD]"))
    assert measurement.model.tokenizer.pad_token_id == 340
    inputs, _ = collate(measurement.model, measurement.tokens, measurement.targets, next(measurement.batches()))
    assert inputs["input_ids"][0, -1] > 0
    assert inputs["input_ids"][-1, -1] == 0


def test_the_name_of_a_special_token_in_a_text_is_that_token_and_of_the_content(tiny_model):
    tokenizer = load(Checkpoint(str(tiny_model("llama")))).tokenizer
    (encoding,) = encode(tokenizer, ["a </s> a"])
    assert encoding.tokens.count("</s>") == 1
    assert encoding.special_tokens_mask == [1, 0, 0, 0, 0, 0][: len(encoding.ids)]


def test_a_token_of_a_text_that_the_model_has_no_embedding_for_is_named(changed, prepared):
    added = {"id": 340, "content": "cat", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    folder = changed(backend=lambda content: content["added_tokens"].append(added | {"special": False}))
    message = (
        "corpus test: text 0 holds the token 'cat', number 340 of the tokenizer, but LlamaModel has embeddings for 340 "
        "tokens alone"
    )
    with pytest.raises(IngestError, match=f"^{message}$"):
        prepared(folder)


def test_a_start_token_that_the_decoder_has_no_embedding_for_is_named(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model("t5"), tmp_path / "t5")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"decoder_start_token_id": 5000}))
    with pytest.raises(IngestError, match="decoder starts with token 5,000 by its decoder_start_token_id, but has"):
        start_token(load(Checkpoint(str(folder)), with_decoder=True))


def test_a_character_that_a_tokenizer_does_not_know_is_one_clear_line(changed, prepared):
    def forget(content):
        vocabulary = {name: index for name, index in content["model"]["vocab"].items() if name != "Ġcat"}
        content["model"] = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "absent"}

    with pytest.raises(IngestError, match=r"cannot read one of the texts: WordLevel error: Missing \[UNK\]"):
        prepared(changed(backend=forget))


@pytest.fixture
def bare(tiny_model, tmp_path):
    """Return a checkpoint's folder without a tokenizer, as training leaves it."""
    folder = tmp_path / "bare"
    shutil.copytree(tiny_model("llama"), folder, ignore=shutil.ignore_patterns("tokenizer*"))
    return folder


def test_a_checkpoint_without_a_tokenizer_is_measured_with_another_s_as_it_would_be_with_its_own(
    tiny_model, bare, prepared
):
    own, other = prepared(tiny_model("llama")), prepared(bare, tokenizer=str(tiny_model("llama")))
    assert other.run_id == own.run_id
    assert other.request_id != own.request_id


def test_another_tokenizer_may_lie_in_a_folder_of_its_own(tiny_model, bare, tmp_path):
    (tmp_path / "words").mkdir()
    for file in tiny_model("llama").glob("tokenizer*"):
        shutil.copy(file, tmp_path / "words")
    assert len(load(Checkpoint(str(bare)), tokenizer=str(tmp_path / "words")).tokenizer) == 340
    with pytest.raises(IngestError, match=r"^cannot load tokenizer '\./absent': there is no such folder$"):
        load(Checkpoint(str(bare)), tokenizer="./absent")


def test_a_changed_tokenizer_is_measured_anew(tiny_model, bare, tmp_path, filled):
    words = shutil.copytree(tiny_model("llama"), tmp_path / "words")
    settings = Settings(tokenizer=str(words))
    runs = [ingest_model(str(bare), corpus="test", store=filled.path, settings=settings) for _ in range(2)]
    content = json.loads((words / "tokenizer.json").read_text())
    content["post_processor"] = None
    (words / "tokenizer.json").write_text(json.dumps(content))
    runs.append(ingest_model(str(bare), corpus="test", store=filled.path, settings=settings))
    assert [run.is_new for run in runs] == [True, False, True]


def test_a_checkpoint_without_a_tokenizer_says_how_to_name_another(bare):
    with pytest.raises(IngestError, match=r"its tokenizer cannot be read: there is none.*name another: --tokenizer$"):
        load(Checkpoint(str(bare)))


def test_weights_are_read_without_a_tokenizer(bare):
    model = load(Checkpoint(str(bare)), with_tokenizer=False)
    with pytest.raises(IngestError, match="model bare was loaded without a tokenizer"):
        _ = model.tokenizer


def test_transformers_is_quiet_where_it_was_quiet():
    from transformers.utils import logging

    logging.disable_progress_bar()
    with quietly():
        pass
    assert not logging.is_progress_bar_enabled()
    logging.enable_progress_bar()


def test_special_tokens_inside_a_text_are_refused(changed, prepared):
    def twice(content):
        text = {"Sequence": {"id": "A", "type_id": 0}}
        content["post_processor"]["single"] = [text, {"SpecialToken": {"id": "<s>", "type_id": 0}}, text]

    with pytest.raises(IngestError, match=r"^the tokenizer puts special tokens inside a text"):
        prepared(changed(backend=twice))
