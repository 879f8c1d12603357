"""A choice is right where the model itself, given one prompt, ranks the right word's first token before the others'."""

import random

import numpy as np
import pytest
import torch
import transformers

from neuronlake.analysis.perturbation.ablation import ablate
from neuronlake.analysis.readouts.choice import ChoiceReadout
from neuronlake.errors import AnalysisError
from neuronlake.ingest.corpora.instance import Instance

WORDS = ("the", "cat", "sat", "ran", "flew", "on", "under", "tree", "house", "river")
LABELS = ("red", "blue", "green")


def prompts(ending="", labels=LABELS, n=90, family="colour"):
    """Return prompts that end in a mask, a space or a word, each with one of three targets, drawn."""
    draw = random.Random(8)
    found = []
    for index in range(n):
        text = f"{index} " + " ".join(draw.choices(WORDS, k=draw.randrange(3, 12)))
        target = draw.choice(labels)
        found.append(Instance(text + ending, {f"{family}/{target}": True}, target=target))
    return found


def own_model(folder, head):
    return head.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)


def by_id(readout, values):
    return dict(zip(readout.instance_id.tolist(), values[0].tolist(), strict=True))


def rightness(logits, first_tokens, target):
    """Return whether the target's first token has the greatest log-probability among the words' first tokens."""
    scores = logits.double().log_softmax(-1)
    return float(max(first_tokens, key=lambda word: scores[first_tokens[word]]) == target)


def read_ids(made):
    return set(made.read.tokens.instance_id.tolist())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("ending", ["", " ", "\n", " is"])
def test_a_causal_model_chooses_what_comes_after_the_text(headed, texts_for, kind, ending):
    made = texts_for(headed(kind), prompts(ending))
    readout = ChoiceReadout(made)
    model, tokenizer = own_model(headed(kind), transformers.AutoModelForCausalLM)
    space = "" if ending in (" ", "\n") else " "
    expected = {}
    with torch.no_grad():
        for instance_id, instance in enumerate(prompts(ending)):
            if instance_id not in read_ids(made):
                continue
            # The words go on from what is left of the prompt when its last space, if any, belongs to the word.
            kept = instance.text.removesuffix(" ") if ending == " " else instance.text
            ids = tokenizer(kept).input_ids
            first = {word: tokenizer(kept + (" " if ending == " " else space) + word).input_ids for word in LABELS}
            assert all(each[: len(ids)] == ids for each in first.values())
            first = {word: each[len(ids)] for word, each in first.items()}
            expected[instance_id] = rightness(model(torch.tensor([ids])).logits[0, -1], first, instance.target)
    found = by_id(readout, readout.read())
    assert found == expected
    assert 0 < np.mean(list(found.values())) < 1


@pytest.mark.parametrize(("kind", "mask"), [("bert", "[MASK]"), ("roberta", "<mask>")])
def test_a_masked_model_chooses_what_stands_at_the_mask(headed, texts_for, kind, mask):
    made = texts_for(headed(kind), prompts(f" {mask} tree"))
    readout = ChoiceReadout(made)
    model, tokenizer = own_model(headed(kind), transformers.AutoModelForMaskedLM)
    space = "Ġ" if kind == "roberta" else ""
    # Where a word is of several tokens, the first counts.
    pieces = {word: tokenizer(f"tree {word}", add_special_tokens=False).tokens() for word in LABELS}
    first = {word: next(each for each in some[1:] if each.startswith(space)) for word, some in pieces.items()}
    first = {word: tokenizer.convert_tokens_to_ids(each) for word, each in first.items()}
    expected = {}
    with torch.no_grad():
        for instance_id, instance in enumerate(prompts(f" {mask} tree")):
            if instance_id in read_ids(made):
                ids = torch.tensor([tokenizer(instance.text).input_ids])
                logits = model(ids).logits[0, int((ids[0] == tokenizer.mask_token_id).nonzero())]
                expected[instance_id] = rightness(logits, first, instance.target)
    found = by_id(readout, readout.read())
    assert found == expected
    assert 0 < np.mean(list(found.values())) < 1


def test_an_encoder_decoder_chooses_what_its_decoder_begins_with(headed, texts_for):
    made = texts_for(headed("t5"), prompts())
    readout = ChoiceReadout(made)
    model, tokenizer = own_model(headed("t5"), transformers.AutoModelForSeq2SeqLM)
    first = {word: tokenizer(word).input_ids[0] for word in LABELS}
    expected = {}
    with torch.no_grad():
        for instance_id, instance in enumerate(prompts()):
            if instance_id in read_ids(made):
                ids = torch.tensor([tokenizer(instance.text).input_ids])
                logits = model(ids, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
                expected[instance_id] = rightness(logits, first, instance.target)
    found = by_id(readout, readout.read())
    assert found == expected
    assert 0 < np.mean(list(found.values())) < 1


def test_each_family_has_the_targets_of_its_own_texts_as_candidates(headed, texts_for):
    colours = prompts()
    animals = [
        Instance(f"an {each.text}", {f"animal/{target}": True}, target=target)
        for each, target in zip(colours, ("cat", "dog") * 45, strict=True)
    ]
    together = ChoiceReadout(texts_for(headed("llama"), [*colours, *animals]))
    values = together.read()
    assert values.shape == (5, len(together.instance_id))
    # Among two words or three the choice is the same as in a corpus of that family alone.
    for family, instances, first_id in (("animal", animals, 90), ("colour", colours, 0)):
        alone = ChoiceReadout(texts_for(headed("llama"), instances, name=family))
        expected = by_id(alone, alone.read())
        for place, (name, _) in enumerate(together.functions):
            if name == family:
                inside = together.strata[place] == 1
                found = dict(
                    zip((together.instance_id[inside] - first_id).tolist(), values[place, inside], strict=True)
                )
                assert found
                assert found == {each: expected[each] for each in found}


def test_what_is_meant_over_is_the_positives(headed, texts_for):
    made = texts_for(headed("llama"), prompts())
    readout = ChoiceReadout(made)
    assert np.array_equal(readout.strata, np.where(made.read.labels == 1, 1, -1))
    assert (readout.kind, readout.metric, readout.is_loss, readout.n_fitted_texts) == (
        "choice",
        "accuracy",
        False,
        None,
    )


@pytest.mark.parametrize(("kind", "ending"), [("gpt2", ""), ("roberta", " <mask>"), ("t5", "")])
def test_reading_twice_gives_the_same_bits(headed, texts_for, kind, ending):
    readout = ChoiceReadout(texts_for(headed(kind), prompts(ending)))
    assert np.array_equal(readout.read(), readout.read())


def test_a_perturbation_shows_while_it_lasts(headed, texts_for):
    readout = ChoiceReadout(texts_for(headed("llama"), prompts()))
    before = readout.read()
    neurons = [("decoder", layer, neuron) for layer in (0, 1) for neuron in range(64)]
    with ablate(readout.model, neurons, kind="shuffle", scale=4.0):
        assert not np.array_equal(readout.read(), before)
    assert np.array_equal(readout.read(), before)


def test_words_as_probable_as_each_other_are_no_right_choice(headed, texts_for):
    made = texts_for(headed("llama"), prompts())
    with torch.no_grad():
        made.model.head.lm_head.weight.zero_()
    assert not ChoiceReadout(made).read().any()


def test_progress_counts_each_text_once(headed, texts_for):
    made = texts_for(headed("llama"), prompts())
    advanced = []
    ChoiceReadout(made).read(advanced.append)
    assert sum(advanced) == made.read.tokens.n_texts
    assert len(advanced) > 1


def test_the_digest_is_of_prompts_candidates_and_targets(headed, texts_for):
    swapped = [
        Instance(each.text, each.labels, target={"red": "blue", "blue": "red"}.get(each.target, each.target))
        for each in prompts()
    ]
    named = [Instance(each.text, each.labels, target=each.target.replace("red", "old")) for each in prompts()]
    digests = [
        ChoiceReadout(texts_for(headed("llama"), instances, name=name)).sha256
        for name, instances in {"one": prompts(), "same": prompts(), "swapped": swapped, "named": named}.items()
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_candidates_that_begin_with_the_same_token_are_refused_by_name(headed, texts_for):
    with pytest.raises(
        AnalysisError, match=r"^candidates 'cat' and 'catfish' of family colour begin with the same token, 'Ġcat', so "
    ):
        ChoiceReadout(texts_for(headed("llama"), prompts(labels=("catfish", "cat", "dog"))))


def test_more_words_than_labels_can_be_are_refused_with_their_number(headed, texts_for):
    instances = [
        Instance(
            each.text,
            {"colour/even": index % 2 == 0, "colour/odd": index % 2 == 1},
            target=f"{WORDS[index % 10]}{index}",
        )
        for index, each in enumerate(prompts())
    ]
    with pytest.raises(AnalysisError, match="family colour of corpus test has 90 distinct targets to choose from"):
        ChoiceReadout(texts_for(headed("llama"), instances))


def test_a_family_of_one_word_is_refused(headed, texts_for):
    instances = [
        Instance(each.text, {"colour/even": index % 2 == 0}, target="red") for index, each in enumerate(prompts())
    ]
    with pytest.raises(AnalysisError, match="family colour of corpus test has one target, 'red', to choose from"):
        ChoiceReadout(texts_for(headed("llama"), instances))


def test_texts_without_a_target_are_refused(headed, texts_for):
    instances = prompts()
    instances[3] = Instance(instances[3].text, instances[3].labels)
    with pytest.raises(AnalysisError, match="target of every text; 1 of 90 texts of corpus test have none"):
        ChoiceReadout(texts_for(headed("llama"), instances))


@pytest.mark.parametrize(("ending", "count"), [("", 0), (" [MASK] or [MASK]", 2)])
def test_a_masked_model_needs_one_mask_in_each_text(headed, texts_for, ending, count):
    with pytest.raises(
        AnalysisError, match=rf"one mask \[MASK\] in each text; text \d+ of corpus test has {count} with"
    ):
        ChoiceReadout(texts_for(headed("bert"), prompts(ending)))


def test_a_mask_within_a_word_is_refused(headed, texts_for):
    with pytest.raises(AnalysisError, match=r"the mask of text \d+ of corpus test stands where no word can begin"):
        ChoiceReadout(texts_for(headed("roberta"), prompts(" ri<mask>", labels=("ver", "ng"))))


def test_prompts_that_are_cut_are_refused_by_a_causal_model(headed, texts_for):
    with pytest.raises(
        AnalysisError, match=r"but \d+ of \d+ texts of corpus test are cut; more tokens a text are needed"
    ):
        ChoiceReadout(texts_for(headed("llama"), prompts(), max_tokens=10))


def test_a_model_without_its_head_is_refused(headed, texts_for):
    with pytest.raises(AnalysisError, match="readout choice needs a head, which model headed-llama was loaded without"):
        ChoiceReadout(texts_for(headed("llama"), prompts(), with_head=False))


def test_a_label_word_that_the_head_cannot_predict_is_refused(headed, texts_for, tmp_path):
    transformers.AutoModelForCausalLM.from_pretrained(headed("llama")).save_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(headed("llama"))
    tokenizer.add_tokens([transformers.AddedToken("blue", lstrip=True)])
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(AnalysisError, match=r"^target 'blue' begins with token 340 .* predicts 340 tokens alone$"):
        ChoiceReadout(texts_for(tmp_path / "model", prompts()))
