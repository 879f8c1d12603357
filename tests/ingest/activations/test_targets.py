"""Target texts, as the decoder of an encoder-decoder reads them."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from neuronlake.errors import IngestError
from neuronlake.ingest.activations.tokens import TokenizedTargets, tokenize_targets
from neuronlake.ingest.corpora.instance import Instance
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Resources, Settings

START, END = 0, 1


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Callable[[str], Path]) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tiny_model("t5"))


@pytest.fixture
def tokenized(store, make_corpus, tokenizer) -> Callable[..., TokenizedTargets]:
    """Return a function that tokenizes targets, each of a text of its own."""

    def run(
        *targets: str, max_tokens: int = 64, using: PreTrainedTokenizerFast = tokenizer, **how: str
    ) -> TokenizedTargets:
        instances = [
            Instance(f"text {index}", {"task/any": bool(index % 2)}, target=target)
            for index, target in enumerate(targets)
        ]
        make_corpus(store, instances)
        return tokenize_targets(StoredCorpus(store, "test"), using, start_token=START, max_tokens=max_tokens, **how)

    return run


def inputs_of(found: TokenizedTargets) -> list[list[int]]:
    return [part.tolist() for part in np.split(found.token_ids, found.token_start[1:-1])]


def test_a_decoder_reads_the_start_token_and_the_target_without_its_end(tokenized, tokenizer):
    found = tokenized("the cat sat", "dog")
    words = tokenizer.convert_tokens_to_ids(["▁the", "▁cat", "▁sat", "▁dog"])
    assert inputs_of(found) == [[START, *words[:3]], [START, words[3]]]
    assert found.token_start.tolist() == [0, 4, 6]
    assert END not in found.token_ids


def test_the_span_of_a_target_is_its_own_tokens(tokenized):
    found = tokenized("the cat sat", "dog")
    assert (found.start.tolist(), found.stop.tolist()) == ([1, 1], [4, 2])


def test_with_special_tokens_the_span_is_all_that_is_read(tokenized):
    found = tokenized("the cat sat", "dog", special_tokens="keep")
    assert (found.start.tolist(), found.stop.tolist()) == ([0, 0], [4, 2])


def test_special_tokens_before_a_target_are_read_but_are_none_of_its_own(tokenized, tiny_model):
    # As a beginning-of-text token or a language is in other models; there, nothing stands behind.
    found = tokenized("the cat", "dog", using=AutoTokenizer.from_pretrained(tiny_model("llama")))
    for ids, start, stop in zip(inputs_of(found), found.start, found.stop, strict=True):
        assert (start, stop) == (2, len(ids))


def test_a_target_that_is_too_long_is_cut(tokenized, tokenizer):
    found = tokenized("the cat sat on the mat", "dog", max_tokens=4)
    words = tokenizer.convert_tokens_to_ids(["▁the", "▁cat", "▁sat", "▁dog"])
    assert inputs_of(found) == [[START, *words[:3]], [START, words[3]]]
    assert (found.start.tolist(), found.stop.tolist()) == ([1, 1], [4, 2])


@pytest.mark.parametrize("kind", ["t5", "bert", "gpt2"])
def test_no_decoder_input_is_longer_than_the_limit(tokenized, tiny_model, kind):
    # Tokenizers add a token behind, before, at both ends or none: the start token counts with each of them.
    using = AutoTokenizer.from_pretrained(tiny_model(kind))
    found = tokenized("the cat sat on the mat under the tree", "dog", max_tokens=6, using=using)
    assert max(map(len, inputs_of(found))) <= 6


def test_a_target_without_a_token_is_refused_with_its_text(tokenized):
    with pytest.raises(IngestError, match="corpus test: the target of text 1 has no token to measure"):
        tokenized("cat", "", "dog")


def test_the_digest_tells_other_targets_apart(tokenizer, store, make_corpus):
    digests = []
    for name, target in (("one", "cat"), ("two", "dog"), ("three", "cat")):
        instances = [Instance("a", {"task/any": True}, target=target), Instance("b", {"task/any": False}, target="on")]
        make_corpus(store, instances, name=name)
        corpus = StoredCorpus(store, name)
        digests.append(tokenize_targets(corpus, tokenizer, start_token=START, max_tokens=9).sha256())
    assert digests[0] == digests[2] != digests[1]


class Notes:
    """Progress that keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def phase(self, name: str, *, total: int, unit: str) -> None: ...

    def advance(self, amount: int) -> None: ...

    def note(self, text: str) -> None:
        if not text.startswith("labels go by"):  # of which `test_clusters` is
            self.notes.append(text)


@pytest.fixture(scope="module")
def translations(words: list[str]) -> list[Instance]:
    """Return texts with targets of several lengths; of some texts, two spans beside the whole."""
    instances = []
    for index in range(24):
        text = " ".join(words[(index + step * 5) % len(words)] for step in range(3 + index % 4))
        target = " ".join(words[(index * 3 + step * 7) % len(words)] for step in range(1 + index % 5))
        labels = {"task/any": index % 3 == 0}
        instances.append(Instance(text, labels, target=target))
        if index % 2:
            end = text.index(" ")
            instances.append(Instance(text, labels, start=0, end=end, target=target))
    return instances


@pytest.fixture
def with_targets(store, make_corpus, translations):
    make_corpus(store, translations)
    return store


@pytest.fixture(scope="module")
def decoder_activations(translations) -> Callable[..., list[np.ndarray]]:
    """Return a function from a model's folder, and if its gate is asked for, to what plain hooks see of its decoder."""
    return functools.cache(lambda folder, gate=False: see_decoder(folder, translations, gate=gate))


def see_decoder(folder: Path, instances: list[Instance], *, gate: bool) -> list[np.ndarray]:
    """Return what plain hooks see of each decoder layer, text by text, without padding: [neurons, instances]."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    seen: dict[int, torch.Tensor] = {}
    for layer, block in enumerate(model.decoder.block):
        network = block.layer[2].DenseReluDense
        if gate:
            network.act.register_forward_hook(lambda _, __, output, layer=layer: seen.update({layer: output[0]}))
        else:
            network.wo.register_forward_pre_hook(lambda _, inputs, layer=layer: seen.update({layer: inputs[0][0]}))
    pooled: list[list[torch.Tensor]] = [[], []]
    for instance in instances:
        source = tokenizer(instance.text)["input_ids"]
        target = tokenizer(instance.target, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[START, *target]]))
        for layer in (0, 1):
            pooled[layer].append(seen[layer][1:].amax(0))
    return [torch.stack(each).T.double().numpy() for each in pooled]


def test_both_stacks_are_measured_where_every_text_has_a_target(with_targets, tiny_model, read_rows):
    notes = Notes()
    report = ingest_model(str(tiny_model("t5")), corpus="test", store=with_targets.path, progress=notes)
    layers = [(row["stack"], row["layer"], row["n_neurons"]) for row in read_rows(with_targets, "layers")]
    assert sorted(layers) == [("decoder", 0, 64), ("decoder", 1, 64), ("encoder", 0, 64), ("encoder", 1, 64)]
    assert (report.n_layers, report.n_neurons) == (4, 256)
    assert not any("encoder" in note for note in notes.notes)
    assert with_targets.check() == ()


@pytest.mark.parametrize(("kind", "site"), [("t5", "activation"), ("t5-gated", "activation"), ("t5-gated", "gate")])
@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_decoder_neurons_are_what_plain_hooks_see(
    with_targets, tiny_model, read_rows, decoder_activations, kind, site, batch_tokens
):
    folder = tiny_model(kind)
    ingest_model(
        str(folder),
        corpus="test",
        store=with_targets.path,
        settings=Settings(site=site),
        resources=Resources(batch_tokens=batch_tokens),
    )
    expected = decoder_activations(folder, site == "gate")
    rows = {
        (row["layer"], row["neuron"]): row for row in read_rows(with_targets, "neurons") if row["stack"] == "decoder"
    }
    assert len(rows) == 128
    for (layer, neuron), row in rows.items():
        values = expected[layer][neuron]
        found = [row["mean"], row["std"], row["min"], row["max"]]
        assert found == pytest.approx([values.mean(), values.std(), values.min(), values.max()], rel=1e-4, abs=1e-5)


def test_decoder_neurons_do_not_depend_on_padding(with_targets, tiny_model, read_rows, decoder_activations):
    folder = tiny_model("t5")
    ingest_model(str(folder), corpus="test", store=with_targets.path)
    expected = decoder_activations(folder)
    found = {(row["stack"], row["layer"], row["neuron"]): row["mean"] for row in read_rows(with_targets, "neurons")}
    for layer in (0, 1):
        means = [found["decoder", layer, neuron] for neuron in range(64)]
        assert means == pytest.approx(expected[layer].mean(1).tolist(), rel=1e-4, abs=1e-5)


def test_the_encoder_is_measured_alike_with_and_without_targets(
    store, make_corpus, tiny_model, read_rows, translations
):
    folder = str(tiny_model("t5"))
    make_corpus(store, translations, name="with")
    without = [Instance(each.text, each.labels, each.start, each.end) for each in translations]
    make_corpus(store, without, name="without")
    means = []
    for name in ("with", "without"):
        report = ingest_model(folder, corpus=name, store=store.path)
        rows = read_rows(store, "neurons", job=report.run_id)
        means.append({(row["layer"], row["neuron"]): row["mean"] for row in rows if row["stack"] == "encoder"})
    assert means[0].keys() == means[1].keys()
    assert list(means[0].values()) == pytest.approx([means[1][key] for key in means[0]], rel=1e-5, abs=1e-6)


def test_other_targets_make_another_run(store, make_corpus, tiny_model, translations):
    run_ids = set()
    for name, ending in (("one", ""), ("two", " song")):
        instances = [
            Instance(each.text, each.labels, each.start, each.end, target=f"{each.target}{ending}")
            for each in translations
        ]
        make_corpus(store, instances, name=name)
        run_ids.add(ingest_model(str(tiny_model("t5")), corpus=name, store=store.path).run_id)
    assert len(run_ids) == 2


def test_the_encoder_alone_is_measured_where_some_texts_have_no_target(
    store, make_corpus, tiny_model, read_rows, translations
):
    instances = [
        each if index >= 2 else Instance(each.text, each.labels, each.start, each.end)
        for index, each in enumerate(translations)
    ]
    make_corpus(store, instances)
    notes = Notes()
    ingest_model(str(tiny_model("t5")), corpus="test", store=store.path, progress=notes)
    assert [(row["stack"], row["layer"]) for row in read_rows(store, "layers")] == [("encoder", 0), ("encoder", 1)]
    (note,) = [note for note in notes.notes if "encoder" in note]
    assert "its encoder alone is measured, for 2 texts of corpus test have no target" in note
