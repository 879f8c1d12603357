"""Probes are scikit-learn's, on states of one text at a time, and stay as they were fitted."""

import random
import warnings

import numpy as np
import pytest
import torch
import transformers
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from neuronlake.analysis.perturbation.ablation import ablate
from neuronlake.analysis.readouts import probe
from neuronlake.analysis.readouts.probe import ProbeReadout
from neuronlake.analysis.readouts.readout import summarize
from neuronlake.errors import AnalysisError
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load
from neuronlake.schema.store import Store

WORDS = ("the", "cat", "dog", "bird", "sat", "ran", "flew", "on", "under", "tree", "house", "river", "red", "blue")


def instances():
    """Return, of each of 100 texts, the whole and its last words, with a label that shows and one drawn at random."""
    draw = random.Random(8)
    found = []
    for index in range(100):
        is_animal = draw.random() < 0.5
        words = WORDS[:7] if is_animal else WORDS[7:]
        text = f"{index} " + " ".join(draw.choices(words, k=draw.randrange(3, 14)))
        for start, end in ((None, None), (text.index(" ") + 1, len(text))):
            labels = {"task/animal": is_animal, "semantic/drawn": draw.random() < 0.4}
            found.append(Instance(text, labels, start, end))
    return found


def states(model, texts):
    """Return the mean of each instance's final hidden states, one text at a time."""
    tokens = texts.tokens
    found = []
    with torch.no_grad():
        for text, start, stop in zip(tokens.text, tokens.start, tokens.stop, strict=True):
            ids = tokens.token_ids[tokens.token_start[text] : tokens.token_start[text + 1]].tolist()
            found.append(model(torch.tensor([ids])).last_hidden_state[0, start:stop].float().mean(0).numpy())
    return np.array(found, dtype=np.float64)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "gpt2", "t5"])
def test_each_function_is_read_by_a_probe_of_the_other_half(tiny_model, texts_for, kind):
    made = texts_for(tiny_model(kind), instances(), with_head=False)
    readout = ProbeReadout(made)
    values = readout.read()
    automatic = transformers.T5EncoderModel if kind == "t5" else transformers.AutoModel
    model = automatic.from_pretrained(tiny_model(kind)).eval()
    fitted, read = states(model, made.fitted), states(model, made.read)
    mean, deviation = fitted.mean(0), fitted.std(0)
    assert readout.functions == (("semantic", "drawn"), ("task", "animal"))
    for index in range(2):
        own = LogisticRegression(C=0.001, class_weight="balanced", max_iter=5000)
        own.fit((fitted - mean) / deviation, made.fitted.labels[index])
        decided = own.predict((read - mean) / deviation)
        certain = np.abs(own.decision_function((read - mean) / deviation)) > 1e-3
        assert certain.mean() > 0.95
        assert np.array_equal(values[index][certain], (decided == made.read.labels[index])[certain])
        score = balanced_accuracy_score(made.read.labels[index], decided)
        assert summarize(values, readout.strata)[index] == pytest.approx(score, abs=0.03)
    assert summarize(values, readout.strata)[1] > 0.65


def test_an_instance_outside_a_function_is_neither_fitted_nor_right(tiny_model, tmp_path):
    some = [Instance(each.text, {"task/animal": each.labels["task/animal"]}, each.start, each.end)
            if index % 3 else Instance(each.text, {"task/other": index % 2 == 0}, each.start, each.end)
            for index, each in enumerate(instances())]  # fmt: skip
    build_corpus(Source(some, "a test", None, "test: literals", "explicit"), "test", store=tmp_path / "store")
    from neuronlake.analysis.readouts.readout import read_texts

    made = read_texts(
        load(Checkpoint(str(tiny_model("bert")))), StoredCorpus(Store(tmp_path / "store"), "test"),
        n_texts=1000, max_tokens=40, batch_tokens=100, of_equal_lengths=False, seed=0,
    )  # fmt: skip
    readout = ProbeReadout(made)
    values = readout.read()
    outside = readout.strata == -1
    assert outside.any()
    assert not values[outside].any()
    assert set(np.unique(values[~outside])) == {0, 1}
    model = transformers.AutoModel.from_pretrained(tiny_model("bert")).eval()
    fitted = states(model, made.fitted)
    features = (fitted - fitted.mean(0)) / fitted.std(0)
    read = (states(model, made.read) - fitted.mean(0)) / fitted.std(0)
    (index,) = [place for place, each in enumerate(made.functions) if each == ("task", "animal")]
    inside, tested = made.fitted.labels[index] >= 0, made.read.labels[index] >= 0
    own = LogisticRegression(C=0.001, class_weight="balanced").fit(features[inside], made.fitted.labels[index][inside])
    right = own.predict(read[tested]) == made.read.labels[index][tested]
    assert (values[index][tested] == right).mean() > 0.97


def test_the_strata_are_the_labels_of_the_half_that_is_read(tiny_model, texts_for):
    made = texts_for(tiny_model("bert"), instances(), with_head=False)
    readout = ProbeReadout(made)
    assert np.array_equal(readout.strata, made.read.labels)
    assert not set(readout.text.tolist()) & set(made.fitted.tokens.text.tolist())
    assert readout.n_fitted_texts == made.fitted.tokens.n_texts
    assert (readout.kind, readout.metric, readout.is_loss) == ("probe", "balanced accuracy", False)


@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_a_perturbation_misleads_a_probe_that_stays_as_it_is(tiny_model, texts_for, kind):
    readout = ProbeReadout(texts_for(tiny_model(kind), instances(), with_head=False))
    before = readout.read()
    stack = "decoder" if kind == "llama" else "encoder"
    neurons = [(stack, layer, neuron) for layer in (0, 1) for neuron in range(64)]
    with ablate(readout.model, neurons, kind="shuffle", scale=4.0, seed=1):
        ablated = readout.read()
    assert summarize(ablated, readout.strata)[1] < summarize(before, readout.strata)[1] - 0.05
    assert np.array_equal(readout.read(), before)


def test_of_an_encoder_decoder_run_whole_the_encoder_is_read(tiny_model, texts_for):
    alone = ProbeReadout(texts_for(tiny_model("t5"), instances(), with_head=False))
    whole = ProbeReadout(texts_for(tiny_model("t5"), instances(), with_head=False, with_decoder=True))
    assert np.array_equal(alone.read(), whole.read())
    assert whole.sha256 == alone.sha256


def test_a_model_with_its_head_is_read_like_one_without(headed, texts_for):
    without, with_head = (
        ProbeReadout(texts_for(headed("roberta"), instances(), with_head=each)) for each in (False, True)
    )
    assert np.array_equal(without.read(), with_head.read())


def test_states_that_are_the_same_everywhere_do_no_harm(tiny_model, texts_for):
    made = texts_for(tiny_model("bert"), instances(), with_head=False)
    norm = made.model.module.encoder.layer[1].output.LayerNorm
    with torch.no_grad():
        norm.weight[3] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(ProbeReadout(made).read()).all()


def test_a_perturbed_model_that_overflows_is_read_without_a_warning(tiny_model, texts_for):
    made = texts_for(tiny_model("bert"), instances(), with_head=False)
    readout = ProbeReadout(made)
    with torch.no_grad():
        made.model.module.encoder.layer[1].output.LayerNorm.weight[3] = float("inf")
    assert readout.read().shape == (2, len(readout.instance_id))


def test_a_model_that_overflows_by_itself_is_refused(tiny_model, texts_for):
    made = texts_for(tiny_model("bert"), instances(), with_head=False)
    with torch.no_grad():
        made.model.module.encoder.layer[1].output.LayerNorm.weight[3] = float("inf")
    with pytest.raises(AnalysisError, match="final hidden states of model tiny-bert on corpus test are not finite"):
        ProbeReadout(made)


def test_a_probe_that_does_not_converge_is_refused_by_name(tiny_model, texts_for, monkeypatch):
    monkeypatch.setattr(probe, "_ITERATIONS", 2)
    with pytest.raises(AnalysisError, match="the probe of semantic/drawn does not converge within 2 iterations"):
        ProbeReadout(texts_for(tiny_model("bert"), instances(), with_head=False))


def test_progress_counts_each_text_once(tiny_model, texts_for):
    made = texts_for(tiny_model("bert"), instances(), with_head=False)
    advanced = []
    ProbeReadout(made).read(advanced.append)
    assert sum(advanced) == made.read.tokens.n_texts
    assert len(advanced) > 1


def test_the_digest_is_of_the_probes_and_of_what_they_read(tiny_model, texts_for):
    made = texts_for(tiny_model("bert"), instances(), with_head=False)
    cut = texts_for(tiny_model("bert"), instances(), with_head=False, max_tokens=8)
    other_model = texts_for(tiny_model("roberta"), instances(), with_head=False)
    digests = [ProbeReadout(each).sha256 for each in (made, made, cut, other_model)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
