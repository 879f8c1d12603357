"""What may name the neurons of an ablation, and ablations that are refused by name."""

import copy

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
import transformers

from neuronlake.analysis.perturbation.ablation import ablate
from neuronlake.errors import AnalysisError, IngestError, UnknownNameError
from neuronlake.queries.database import Database

from .tiny import THREE, assert_clean, levels, run


def test_a_querys_result_says_what_is_perturbed(model, stored):
    database = Database(stored("bert").path)
    result = database.sql("select stack, layer, neuron, mean, std from neurons where layer = 1 and neuron in (3, 7)")
    neurons = result.pl()
    assert neurons.height == 2
    with ablate(model("bert"), result, kind="mean"):
        found = run(model("bert"))
    with ablate(model("bert"), neurons.rename({"mean": "value"}), kind="clamp"):
        assert torch.equal(run(model("bert")), found)
    assert not torch.equal(run(model("bert")), found)


@pytest.mark.parametrize(
    "give",
    [
        lambda table: table,
        lambda table: table.to_pandas(),
        lambda table: pa.table(table.select("neuron", "mean", "layer", "stack")),
        lambda table: table.with_columns(pl.col("stack").cast(pl.Categorical)),
        lambda table: table.select("stack", "layer", "neuron").rows(),
        lambda table: ((stack, np.int16(layer), np.int32(neuron)) for stack, layer, neuron in THREE),
    ],
    ids=["polars", "pandas", "arrow, in another order", "categories", "tuples", "a generator of numpy numbers"],
)
def test_tables_of_any_kind_say_what_is_perturbed(model, give):
    with ablate(model("bert"), THREE):
        expected = run(model("bert"))
    with ablate(model("bert"), give(levels("mean", [0.0] * 3))):
        assert torch.equal(run(model("bert")), expected)


@pytest.mark.parametrize(
    ("neurons", "options", "message"),
    [
        ([("encoder", 2, 0)], {}, "BertForMaskedLM has no layer 2; it has 2 layers of neurons, 0 to 1"),
        ([("encoder", 0, 48)], {}, "layer 0 of the encoder of model BertForMaskedLM has no neuron 48; it has 48,"),
        ([("encoder", 0, -1)], {}, "has no neuron -1"),
        ([*THREE, THREE[0]], {}, "encoder layer 1, neuron 3 is among the neurons more than once; are they"),
        ([("encoder", 0)], {}, r"\('encoder', 0\) is no neuron; one is \(stack, layer, neuron\)"),
        (["encoder"], {}, "'encoder' is no neuron"),
        ([("encoder", 0, 1.5)], {}, "is no neuron"),
        (THREE, {"kind": "mean"}, "kind mean must have the columns stack, layer, neuron, mean; no mean among"),
        (levels("mean", [1.0] * 3), {"kind": "clamp"}, "no value among stack, layer, neuron, mean"),
        (pl.DataFrame({"layer": [1], "neuron": [3]}), {}, "no stack among layer, neuron"),
        (levels("mean", [1.0, float("nan"), 1.0]), {"kind": "mean"}, "column mean holds 1 NaN or infinite"),
        (levels("mean", [1.0, None, 1.0]), {"kind": "mean"}, "column mean holds 1 NULL"),
        (levels("std", ["a", "b", "c"]), {"kind": "noise"}, "column std is .*string.*, not numbers"),
        (levels("mean", [0.0] * 3).with_columns(neuron=pl.lit(1.0)), {}, "column neuron is double, not whole numbers"),
        (levels("mean", [0.0] * 3).with_columns(stack=pl.lit(1)), {}, "column stack is int32, not text"),
        (levels("mean", [0.0] * 3).with_columns(stack=None), {}, "column stack holds 3 NULL"),
        (THREE, {"kind": "zero", "scale": 2.0}, "kind zero has no scale, 2.0 was given; noise and shuffle have one"),
        (THREE, {"kind": "shuffle", "scale": -1.0}, "a perturbation of scale -1.0 is not possible"),
        (THREE, {"kind": "shuffle", "scale": float("inf")}, "a perturbation of scale inf is not possible"),
    ],
)  # fmt: skip
def test_neurons_that_cannot_be_perturbed_as_asked_are_refused(model, neurons, options, message):
    with pytest.raises(AnalysisError, match=message), ablate(model("bert"), neurons, **options):
        pass
    assert_clean(model("bert"))


def test_a_stack_that_the_model_lacks_is_refused_by_name(model):
    wanted = "no stack 'encoder' in model LlamaForCausalLM; did you mean 'decoder'"
    with pytest.raises(UnknownNameError, match=wanted), ablate(model("llama"), [("encoder", 0, 0)]):
        pass


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_one_stack_of_an_encoder_decoder_is_that_stack_alone(model, stack):
    alone = getattr(model("t5"), stack)
    other = {"encoder": "decoder", "decoder": "encoder"}[stack]
    with pytest.raises(UnknownNameError, match=f"no stack '{other}'"), ablate(alone, [(other, 0, 0)]):
        pass
    with ablate(alone, [(stack, 0, 0)]):
        pass


def test_a_kind_that_is_not_there_is_refused_by_name(model):
    with pytest.raises(UnknownNameError, match="no kind of perturbation 'zeros'; did you mean 'zero'"), \
            ablate(model("bert"), THREE, kind="zeros"):  # fmt: skip
        pass


def test_the_first_stack_is_itself_when_the_second_is_refused(model):
    with pytest.raises(AnalysisError, match="the decoder of model T5ForConditionalGeneration has no layer 9"), \
            ablate(model("t5"), [("encoder", 0, 0), ("decoder", 9, 0)]):  # fmt: skip
        pass
    assert_clean(model("t5"))


def test_a_compiled_model_is_refused_for_it_would_pass_over_the_perturbation(model):
    compiled = copy.deepcopy(model("llama"))
    compiled.compile(backend="eager")
    with pytest.raises(AnalysisError, match="LlamaForCausalLM is compiled"), ablate(compiled, [("decoder", 0, 0)]):
        pass
    with pytest.raises(AnalysisError, match="OptimizedModule is no model of transformers"), \
            ablate(torch.compile(model("llama"), backend="eager"), [("decoder", 0, 0)]):  # fmt: skip
        pass


def test_a_model_whose_attention_a_short_text_would_change_is_refused_and_left_as_it_is(model):
    big_bird = model("big-bird")
    with pytest.raises(IngestError, match=r"sparse blocks.*on its BigBirdModel"), ablate(big_bird, THREE):
        pass
    assert big_bird.bert.attention_type == "block_sparse"
    big_bird.bert.set_attention_type("original_full")
    with ablate(big_bird, THREE):
        run(big_bird)


def test_a_model_that_takes_no_text_is_refused_by_name():
    config = transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48,
                                    image_size=8, patch_size=4)  # fmt: skip
    with pytest.raises(IngestError, match=r"ViTForImageClassification.*does not take text"), \
            ablate(transformers.ViTForImageClassification(config), [("encoder", 0, 0)]):  # fmt: skip
        pass
