"""The loss of each instance is what the model itself, run on one text at a time, makes of its tokens."""

import random

import numpy as np
import pytest
import torch
import transformers

from neuronlake.analysis.perturbation.ablation import ablate
from neuronlake.analysis.readouts import predictions
from neuronlake.analysis.readouts.loss import LossReadout
from neuronlake.errors import AnalysisError
from neuronlake.ingest.corpora.instance import Instance

WORDS = ("the", "cat", "dog", "bird", "sat", "ran", "flew", "on", "under", "tree", "house", "river", "red", "blue")


def texts(n=60):
    draw = random.Random(5)
    return [f"{index} " + " ".join(draw.choices(WORDS, k=draw.randrange(2, 9))) for index in range(n)]


def spans():
    """Return the first word of each text and two later words, the first of which may overlap it; labels are drawn."""
    draw = random.Random(6)
    instances = []
    for text in texts():
        second, third = (text.index(" ") + 1, text.rindex(" ") + 1)
        for start, end in {(0, second - 1), (second, len(text)), (third, len(text))}:
            instances.append(Instance(text, {"part/drawn": draw.random() < 0.5, "part/late": start > 0}, start, end))
    return instances


def whole():
    return [
        Instance(text, {"task/cat": "cat" in text, "task/even": index % 2 == 0}) for index, text in enumerate(texts())
    ]


def translated():
    return [
        Instance(
            text, {"task/even": index % 2 == 0, "task/cat": "cat" in text}, target=" ".join(reversed(text.split()))
        )
        for index, text in enumerate(texts())
    ]


def own_model(folder, head):
    return head.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)


def nats(logits, token):
    return float(-logits.double().log_softmax(-1)[token])


def by_id(readout, values):
    return dict(zip(readout.instance_id.tolist(), values[0].tolist(), strict=True))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert [found[each] for each in expected] == pytest.approx(list(expected.values()), rel=1e-5)


def read_instances(made):
    """Return the read half's instances: id, tokens of the text, first token and one past the last."""
    tokens = made.read.tokens
    for index, instance_id in enumerate(tokens.instance_id.tolist()):
        text = int(tokens.text[index])
        ids = tokens.token_ids[tokens.token_start[text] : tokens.token_start[text + 1]].tolist()
        yield instance_id, ids, int(tokens.start[index]), int(tokens.stop[index])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_causal_model_predicts_each_token_from_all_before_it(headed, texts_for, kind):
    made = texts_for(headed(kind), spans())
    readout = LossReadout(made)
    model, _ = own_model(headed(kind), transformers.AutoModelForCausalLM)
    expected = {}
    with torch.no_grad():
        for instance_id, ids, start, stop in read_instances(made):
            logits = model(torch.tensor([ids])).logits[0]
            expected[instance_id] = np.mean([nats(logits[place - 1], ids[place]) for place in range(start, stop)])
    assert_equal(by_id(readout, readout.read()), expected)


def test_an_instance_that_is_the_first_token_of_a_text_has_no_loss(headed, texts_for, tmp_path):
    folder = without_beginning(headed("gpt2"), tmp_path)
    instances = [
        Instance(f"{letter} {text}", {"task/even": index % 2 == 0}, 0, end)
        for index, text in enumerate(texts())
        for letter in "ab"
        for end in (1, 3)
    ]
    made = texts_for(folder, instances)
    readout = LossReadout(made)
    model, _ = own_model(folder, transformers.AutoModelForCausalLM)
    expected = {}
    with torch.no_grad():
        for instance_id, ids, start, stop in read_instances(made):
            assert start == 0
            logits = model(torch.tensor([ids])).logits[0]
            if stop > 1:
                expected[instance_id] = np.mean([nats(logits[place - 1], ids[place]) for place in range(1, stop)])
    assert 0 < len(expected) == len(made.read.tokens.text) / 2
    assert_equal(by_id(readout, readout.read()), expected)
    assert readout.strata.shape == (len(readout.functions), len(expected))


def test_a_function_whose_instances_have_no_loss_is_not_read(headed, texts_for, tmp_path):
    folder = without_beginning(headed("gpt2"), tmp_path)
    instances = []
    for index, text in enumerate(texts()):
        instances += [
            Instance(f"a {text}", {"part/first": True}, 0, 1),
            Instance(f"a {text}", {"part/even": index % 2 == 0}, 2, len(text)),
        ]
    made = texts_for(folder, instances)
    assert made.functions == (("part", "even"), ("part", "first"))
    assert LossReadout(made).functions == (("part", "even"),)


def without_beginning(folder, tmp_path):
    """Copy a model with a tokenizer that puts nothing in front of a text."""
    from tokenizers import processors

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    transformers.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "copy")
    tokenizer.save_pretrained(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_masked_model_predicts_all_tokens_of_an_instance_at_once(headed, texts_for, kind):
    made = texts_for(headed(kind), spans())
    readout = LossReadout(made)
    model, tokenizer = own_model(headed(kind), transformers.AutoModelForMaskedLM)
    expected = {}
    with torch.no_grad():
        for instance_id, ids, start, stop in read_instances(made):
            masked = [*ids[:start], *[tokenizer.mask_token_id] * (stop - start), *ids[stop:]]
            logits = model(torch.tensor([masked])).logits[0]
            expected[instance_id] = np.mean([nats(logits[place], ids[place]) for place in range(start, stop)])
    assert_equal(by_id(readout, readout.read()), expected)


def test_of_a_whole_text_some_tokens_are_masked_once_for_all(headed, texts_for):
    made = texts_for(headed("bert"), whole())
    readout = LossReadout(made)
    model, tokenizer = own_model(headed("bert"), transformers.AutoModelForMaskedLM)
    found = by_id(readout, readout.read())
    with torch.no_grad():
        for instance_id, ids, start, stop in read_instances(made):
            n_masked = max(1, round(0.15 * (stop - start)))
            losses = []
            for first in range(start, stop):  # the masks are any n of the text's own tokens
                for second in range(first + 1, stop) if n_masked == 2 else [first]:
                    places = {first, second}
                    masked = [tokenizer.mask_token_id if place in places else each for place, each in enumerate(ids)]
                    logits = model(torch.tensor([masked])).logits[0]
                    losses.append(np.mean([nats(logits[place], ids[place]) for place in places]))
            assert n_masked in (1, 2)
            assert np.abs(np.array(losses) - found[instance_id]).min() < 1e-5


def test_an_encoder_decoder_predicts_the_tokens_of_the_target(headed, texts_for):
    made = texts_for(headed("t5"), translated())
    readout = LossReadout(made)
    model, tokenizer = own_model(headed("t5"), transformers.AutoModelForSeq2SeqLM)
    target = {index: each.target for index, each in enumerate(translated())}
    expected = {}
    with torch.no_grad():
        for instance_id, ids, _, _ in read_instances(made):
            wanted = tokenizer(target[instance_id], add_special_tokens=False).input_ids
            decoder = torch.tensor([[model.config.pad_token_id, *wanted]])
            logits = model(torch.tensor([ids]), decoder_input_ids=decoder).logits[0]
            expected[instance_id] = np.mean([nats(logits[place], each) for place, each in enumerate(wanted)])
    assert_equal(by_id(readout, readout.read()), expected)


@pytest.mark.parametrize(("kind", "instances"), [("llama", spans), ("bert", spans), ("t5", translated)])
def test_logits_in_slices_give_the_same_losses(headed, texts_for, monkeypatch, kind, instances):
    readout = LossReadout(texts_for(headed(kind), instances()))
    at_once = readout.read()
    monkeypatch.setattr(predictions, "_SLICE_LOGITS", 1000)
    assert readout.read() == pytest.approx(at_once, abs=1e-6)


@pytest.mark.parametrize(("kind", "instances"), [("gpt2", spans), ("roberta", spans), ("t5", translated)])
def test_reading_twice_gives_the_same_bits_and_leaves_the_model_as_it_was(headed, texts_for, kind, instances):
    readout = LossReadout(texts_for(headed(kind), instances()))
    before = [(name, vars(module).keys() - {"_forward_pre_hooks"}) for name, module in readout.model.named_modules()]
    assert np.array_equal(readout.read(), readout.read())
    after = [(name, vars(module).keys() - {"_forward_pre_hooks"}) for name, module in readout.model.named_modules()]
    assert before == after
    assert not any(module._forward_pre_hooks for module in readout.model.modules())


@pytest.mark.parametrize(
    ("kind", "stack", "instances"),
    [
        ("llama", "decoder", spans),
        ("bert", "encoder", spans),
        ("t5", "encoder", translated),
        ("t5", "decoder", translated),
    ],
)
def test_a_perturbation_shows(headed, texts_for, kind, stack, instances):
    readout = LossReadout(texts_for(headed(kind), instances()))
    before = readout.read()
    with ablate(readout.model, [(stack, 1, neuron) for neuron in range(64)], kind="zero"):
        assert np.abs(readout.read() - before).mean() > 0.01
    assert np.array_equal(readout.read(), before)


def test_noise_is_drawn_once_however_many_slices_there_are(headed, texts_for, monkeypatch):
    import polars as pl

    readout = LossReadout(texts_for(headed("llama"), spans()))
    neurons = pl.DataFrame([("decoder", 0, neuron, 1.0) for neuron in range(64)], orient="row",
                           schema=["stack", "layer", "neuron", "std"])  # fmt: skip
    read = []
    for size in (1 << 26, 1000):
        monkeypatch.setattr(predictions, "_SLICE_LOGITS", size)
        with ablate(readout.model, neurons, kind="noise", seed=4):
            read.append(readout.read())
    assert read[0] == pytest.approx(read[1], abs=1e-5)


def test_what_is_meant_over_is_the_positives(headed, texts_for):
    made = texts_for(headed("llama"), spans())
    readout = LossReadout(made)
    assert np.array_equal(readout.strata, np.where(made.read.labels == 1, 1, -1))
    assert (readout.kind, readout.metric, readout.is_loss, readout.n_fitted_texts) == (
        "loss",
        "nats a token",
        True,
        None,
    )


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_progress_counts_each_text_once(headed, texts_for, kind):
    made = texts_for(headed(kind), spans())
    advanced = []
    LossReadout(made).read(advanced.append)
    assert sum(advanced) == made.read.tokens.n_texts
    assert len(advanced) > 1


def test_the_digest_is_of_what_is_read_and_of_the_head(headed, texts_for, tmp_path):
    model, tokenizer = own_model(headed("bert"), transformers.AutoModelForMaskedLM)
    model.cls.predictions.bias.data[5] += 1.0
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    made, longer = texts_for(headed("bert"), spans()), texts_for(headed("bert"), spans(), max_tokens=6)
    other_head = texts_for(tmp_path / "other", spans())
    assert made.model.weights_sha256 == other_head.model.weights_sha256
    digests = [LossReadout(each).sha256 for each in (made, made, longer, other_head)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_model_without_its_head_is_refused(headed, texts_for):
    with pytest.raises(AnalysisError, match="readout loss needs a head, which model headed-llama was loaded without"):
        LossReadout(texts_for(headed("llama"), spans(), with_head=False))


def test_a_masked_model_without_a_mask_is_refused(headed, texts_for, tmp_path):
    transformers.AutoModelForMaskedLM.from_pretrained(headed("bert")).save_pretrained(tmp_path / "bare")
    tokenizer = transformers.AutoTokenizer.from_pretrained(headed("bert"))
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(AnalysisError, match="needs a mask, which the tokenizer of model bare has not"):
        LossReadout(texts_for(tmp_path / "bare", spans()))


def test_a_mask_that_the_model_has_no_embedding_for_is_refused(headed, texts_for, tmp_path):
    transformers.AutoModelForMaskedLM.from_pretrained(headed("bert")).save_pretrained(tmp_path / "bare")
    tokenizer = transformers.AutoTokenizer.from_pretrained(headed("bert"))
    tokenizer.add_special_tokens({"mask_token": "[NEW]"})
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(AnalysisError, match=r"needs a mask.* or the model no embedding for"):
        LossReadout(texts_for(tmp_path / "bare", spans()))


def test_an_encoder_decoder_without_targets_is_refused(headed, texts_for):
    with pytest.raises(AnalysisError, match="needs targets; 60 texts of corpus test have none"):
        LossReadout(texts_for(headed("t5"), whole()))
