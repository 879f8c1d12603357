"""Perturbed neurons do what is said of them, all others what they did, and the model is itself again."""

import copy

import numpy as np
import polars as pl
import pytest
import torch
import transformers
from torch import Tensor, nn

from neuronlake.analysis.perturbation.ablation import ablate
from neuronlake.ingest.neurons.hooks import hooked
from neuronlake.ingest.neurons.layers import find_layers

from .tiny import SEQ2SEQ, THREE, assert_clean, levels, run


def assert_equal_to_rounding(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


def weights(model: nn.Module, stack: str, layer: int, neuron: int) -> Tensor:
    """Return a view of the output weights of a neuron, by the architecture's own names."""
    part = getattr(model, stack, model)
    match model.config.model_type:
        case "bert":
            return model.base_model.encoder.layer[layer].output.dense.weight[:, neuron]
        case "llama":
            return model.model.layers[layer].mlp.down_proj.weight[:, neuron]
        case "gpt2":
            return model.transformer.h[layer].mlp.c_proj.weight[neuron]
        case "t5":
            return part.block[layer].layer[-1].DenseReluDense.wo.weight[:, neuron]
        case "olmoe":
            return model.model.layers[layer].mlp.experts.down_proj[neuron // 24, :, neuron % 24]
        case "qwen2_moe" if neuron >= 4 * 24:
            return model.model.layers[layer].mlp.shared_expert.down_proj.weight[:, neuron - 4 * 24]
        case "qwen2_moe":
            return model.model.layers[layer].mlp.experts.down_proj[neuron // 24, :, neuron % 24]
        case "switch_transformers":
            network = part.block[layer].layer[-1].mlp
            if hasattr(network, "experts"):
                return network.experts[f"expert_{neuron // 48}"].wo.weight[:, neuron % 48]
            return network.wo.weight[:, neuron]
    raise AssertionError


def without(model: nn.Module, neurons: list[tuple[str, int, int]]) -> nn.Module:
    """Return a copy whose output weights of some neurons are 0."""
    edited = copy.deepcopy(model)
    with torch.no_grad():
        for stack, layer, neuron in neurons:
            weights(edited, stack, layer, neuron).zero_()
    return edited


DENSE = [0, 3, 7, 8, 20, 47]
ZEROED = {
    "bert": [("encoder", layer, neuron) for layer in (0, 1) for neuron in DENSE],
    "bert-classifier": [("encoder", layer, neuron) for layer in (0, 1) for neuron in DENSE],
    "bert-body": [("encoder", 1, neuron) for neuron in DENSE],
    "llama": [("decoder", layer, neuron) for layer in (0, 1) for neuron in DENSE],
    "gpt2": [("decoder", 0, neuron) for neuron in DENSE],
    "t5": [(stack, layer, neuron) for stack in ("encoder", "decoder") for layer in (0, 1) for neuron in DENSE],
    "olmoe": [("decoder", layer, neuron) for layer in (0, 1) for neuron in (0, 23, 24, 50, 51, 95)],
    "qwen2-moe": [("decoder", 1, neuron) for neuron in (0, 23, 24, 50, 95, 96, 97, 135)],
    "switch": [(stack, layer, neuron) for stack in ("encoder", "decoder") for layer in (0, 1) for neuron in DENSE]
    + [(stack, 1, neuron) for stack in ("encoder", "decoder") for neuron in (48, 100, 150, 191)],
}  # fmt: skip


@pytest.mark.parametrize("kind", ZEROED)
def test_zero_is_what_zeroing_the_output_weights_does(model, kind):
    before = run(model(kind))
    expected = run(without(model(kind), ZEROED[kind]))
    with ablate(model(kind), ZEROED[kind], kind="zero"):
        found = run(model(kind))
    assert (expected - before).abs().max() > 0.01 * before.abs().max()
    assert_equal_to_rounding(found, expected)
    assert torch.equal(run(model(kind)), before)


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_each_stack_of_an_encoder_decoder_is_perturbed_alone(model, kind, stack):
    neurons = [each for each in ZEROED[kind] if each[:2] == (stack, 1)]
    expected = run(without(model(kind), neurons))
    with ablate(model(kind), neurons):
        found = run(model(kind))
    assert not torch.allclose(expected, run(model(kind)), atol=1e-3)
    assert_equal_to_rounding(found, expected)


@pytest.mark.parametrize(("kind", "column"), [("mean", "mean"), ("clamp", "value")])
def test_a_neuron_at_a_fixed_level_is_a_bias(model, kind, column):
    bert = model("bert")
    table = levels(column, [0.5, -1.0, 4.0])
    edited = without(bert, [("encoder", 1, neuron) for neuron in (3, 7, 20)])
    with torch.no_grad():
        for neuron, level in ((3, 0.5), (7, -1.0), (20, 4.0)):
            edited.bert.encoder.layer[1].output.dense.bias += level * weights(bert, "encoder", 1, neuron)
    with ablate(bert, table, kind=kind):
        found = run(bert)
    assert not torch.allclose(found, run(bert), atol=1e-3)
    assert_equal_to_rounding(found, run(edited))


def seen_by(model: nn.Module, layer: int, *, rows: str = "values") -> tuple[list[Tensor], object]:
    """Return a list that takes in what a layer of a decoder or of BERT holds, and the context to be entered."""
    body = model.base_model
    stack = "encoder" if model.config.model_type == "bert" else "decoder"
    layers = [find_layers(body, body.config, stack=stack, name="tiny")[layer]]
    taken: list[Tensor] = []

    def look(network, seen):
        if network == layers[0].feed_forwards[0]:
            taken.append(getattr(seen, rows).clone())
        return seen.values

    return taken, hooked(body, layers, look)


def before_and_after(model: nn.Module, layer: int, neurons, **options) -> tuple[Tensor, Tensor]:
    """Return what a layer holds without and with a perturbation."""
    taken, looking = seen_by(model, layer)
    with looking:
        run(model)
    taken_within, looking = seen_by(model, layer)
    with ablate(model, neurons, **options), looking:
        run(model)
    return taken[0], taken_within[0]


OTHERS = [each for each in range(48) if each not in (3, 7, 20)]


def test_noise_has_the_scale_times_each_neurons_standard_deviation(model):
    before, looking = seen_by(model("bert"), 1)
    with looking:
        run(model("bert"))
    after, looking = seen_by(model("bert"), 1)
    with ablate(model("bert"), levels("std", [0.5, 2.0, 0.0]), kind="noise", scale=3.0), looking:
        for _ in range(100):
            run(model("bert"))
    added = (torch.stack(after) - before[0]).reshape(-1, 48)  # 2,400 tokens: a deviation is known to 1.4%
    assert added[:, [3, 7]].std(0).tolist() == pytest.approx([1.5, 6.0], rel=0.06)
    assert (added[:, [3, 7]].mean(0).abs() < torch.tensor([1.5, 6.0]) * 0.08).all()
    assert abs(np.corrcoef(added[:, 3], added[:, 7])[0, 1]) < 0.08
    assert not added[:, [20, *OTHERS]].any()


@pytest.mark.parametrize("kind", ["bert", "llama", "t5", "olmoe", "switch"])
def test_noise_of_scale_0_leaves_the_same_bits(model, kind):
    stack, layer, neuron = (list(each) for each in zip(*ZEROED[kind], strict=True))
    table = pl.DataFrame({"stack": stack, "layer": layer, "neuron": neuron, "std": 1.0})
    with ablate(model(kind), table, kind="noise", scale=0.0):
        found = run(model(kind))
    assert torch.equal(found, run(model(kind)))
    with ablate(model(kind), table, kind="noise"):
        assert not torch.allclose(run(model(kind)), found, atol=1e-3)


@pytest.mark.parametrize(
    "neurons", [[], levels("mean", [0.0] * 3).clear()], ids=["an empty list", "a table of no rows"]
)
@pytest.mark.parametrize("kind", ["zero", "mean", "shuffle"])
def test_no_neurons_leave_the_same_bits(model, kind, neurons):
    before = run(model("bert"))
    with ablate(model("bert"), neurons, kind=kind):
        assert torch.equal(run(model("bert")), before)


def test_shuffle_keeps_the_values_of_the_selected_neurons_and_all_others_in_place(model):
    before, after = before_and_after(model("bert"), 1, THREE, kind="shuffle")
    assert torch.equal(before[..., OTHERS], after[..., OTHERS])
    moved_from, moved_to = before[..., [3, 7, 20]], after[..., [3, 7, 20]]
    assert torch.equal(moved_from.flatten().sort().values, moved_to.flatten().sort().values)
    # Over texts, positions and neurons: each text and neuron holds values that were another's.
    for text in range(2):
        assert not set(moved_to[text].flatten().tolist()) <= set(moved_from[text].flatten().tolist())
    for neuron in range(3):
        assert not set(moved_to[..., neuron].flatten().tolist()) <= set(moved_from[..., neuron].flatten().tolist())


def test_shuffle_multiplies_what_it_has_permuted_by_the_scale(model):
    _, permuted = before_and_after(model("bert"), 1, THREE, kind="shuffle")
    _, scaled = before_and_after(model("bert"), 1, THREE, kind="shuffle", scale=4.0)
    assert torch.equal(scaled[..., [3, 7, 20]], 4 * permuted[..., [3, 7, 20]])
    assert torch.equal(scaled[..., OTHERS], permuted[..., OTHERS])


def test_shuffle_permutes_each_expert_among_the_tokens_routed_to_it(model):
    neurons = [("decoder", 1, 24 + 5), ("decoder", 1, 24 + 6), ("decoder", 1, 72)]
    before, after = before_and_after(model("olmoe"), 1, neurons, kind="shuffle")
    experts, looking = seen_by(model("olmoe"), 1, rows="expert")
    with looking:
        run(model("olmoe"))
    of = {expert: experts[0] == expert for expert in range(4)}
    assert all(int(each.sum()) > 1 for each in of.values())
    for expert, units in ((1, [5, 6]), (3, [0])):
        changed, unchanged = after[of[expert]][:, units].flatten(), before[of[expert]][:, units].flatten()
        assert not torch.equal(changed, unchanged)
        assert torch.equal(changed.sort().values, unchanged.sort().values)
    untouched = torch.ones_like(before, dtype=torch.bool)
    untouched[of[1], 5] = untouched[of[1], 6] = untouched[of[3], 0] = False
    assert torch.equal(after[untouched], before[untouched])


def test_of_one_text_of_one_token_only_the_selected_neurons_trade_values(model):
    bert, token = model("bert"), torch.tensor([[9]])
    before, looking = seen_by(bert, 1)
    with looking, torch.inference_mode():
        bert(input_ids=token)
    for units in ([3, 7, 20], [3]):
        after, looking = seen_by(bert, 1)
        neurons = [("encoder", 1, neuron) for neuron in units]
        with ablate(bert, neurons, kind="shuffle", scale=2.0), looking, torch.inference_mode():
            bert(input_ids=token)
        assert torch.equal(after[0][..., units].sort().values, 2 * before[0][..., units].sort().values)
        others = [neuron for neuron in range(48) if neuron not in units]
        assert torch.equal(after[0][..., others], before[0][..., others])


@pytest.mark.parametrize("kind", ["noise", "shuffle"])
def test_a_seed_gives_the_same_perturbations_of_the_same_batches(model, kind):
    bert = model("bert")
    table = levels("std", [1.0, 1.0, 1.0])

    def two_batches(seed: int, neurons: pl.DataFrame = table) -> Tensor:
        with ablate(bert, neurons, kind=kind, seed=seed):
            return torch.cat([run(bert), run(bert)])

    first = two_batches(5)
    assert torch.equal(two_batches(5), first)
    assert torch.equal(two_batches(5, table.reverse()), first)  # SQL promises no order
    assert not torch.equal(two_batches(6), first)
    assert not torch.equal(first[:2], first[2:])  # the second batch is drawn anew


@pytest.mark.parametrize("kind", ["noise", "shuffle"])
def test_the_random_state_of_the_caller_is_not_touched(model, kind):
    before = torch.get_rng_state()
    with ablate(copy.deepcopy(model("bert")).train(), levels("std", [1.0] * 3), kind=kind):
        pass  # seen for the first time, with dropout
    with ablate(model("bert"), levels("std", [1.0] * 3), kind=kind):
        run(model("bert"))
    assert torch.equal(torch.get_rng_state(), before)


def test_perturbations_of_different_neurons_compose(model):
    bert = model("bert")
    with ablate(bert, THREE[:1]), ablate(bert, THREE[1:]):
        nested = run(bert)
    with ablate(bert, THREE):
        assert torch.equal(run(bert), nested)
    assert_clean(bert)


def test_a_decoder_that_is_perturbed_is_still_known_for_one(model):
    fresh = copy.deepcopy(model("llama"))
    noise = pl.DataFrame({"stack": ["decoder"], "layer": [0], "neuron": [3], "std": [100.0]})
    with ablate(fresh, noise, kind="noise"), ablate(fresh, [("decoder", 1, 3)]):
        run(fresh)
    assert_clean(fresh)


@pytest.mark.parametrize("kind", ["bert", "llama", "t5", "olmoe", "switch"])
def test_the_model_is_itself_after_an_exception(model, kind):
    before, outputs = copy.deepcopy(model(kind).state_dict()), run(model(kind))
    attributes = {name: sorted(vars(each)) for name, each in model(kind).named_modules()}

    def run_and_fail() -> None:
        run(model(kind))
        raise KeyError

    with pytest.raises(KeyError), ablate(model(kind), ZEROED[kind], kind="shuffle", scale=4.0):
        run_and_fail()
    assert_clean(model(kind))
    assert {name: sorted(vars(each)) for name, each in model(kind).named_modules()} == attributes
    assert all(torch.equal(value, before[name]) for name, value in model(kind).state_dict().items())
    assert torch.equal(run(model(kind)), outputs)


def test_modules_that_were_training_are_training_afterwards(model):
    fresh = copy.deepcopy(model("bert")).eval()
    fresh.bert.encoder.layer[1].train()
    before = [each.training for each in fresh.modules()]
    with ablate(fresh, THREE):
        assert [each.training for each in fresh.modules()] == before
    assert any(before)
    assert not all(before)


def test_gradients_flow_through_what_is_not_overwritten(model):
    llama = copy.deepcopy(model("llama"))
    ids = torch.tensor([[5, 6, 7]])
    gate = llama.model.layers[1].mlp.gate_proj.weight
    for kind, is_cut in (("zero", True), ("shuffle", False)):
        llama.zero_grad()
        with ablate(llama, [("decoder", 1, 3), ("decoder", 1, 7)], kind=kind):
            llama(input_ids=ids).logits.square().sum().backward()
        assert gate.grad[[3, 7]].any() == (not is_cut)
        assert gate.grad[[4, 8]].any()


def test_generation_step_by_step_is_perturbed_in_both_stacks(model):
    t5 = model("t5")
    ids = torch.arange(12).reshape(2, 6) + 5
    settings = transformers.GenerationConfig(max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=0,
                                             decoder_start_token_id=0, eos_token_id=2)  # fmt: skip
    neurons = [(stack, layer, each) for stack in ("encoder", "decoder") for layer in (0, 1) for each in range(40)]
    expected = without(t5, neurons).generate(ids, generation_config=settings)
    with ablate(t5, neurons):
        found = t5.generate(ids, generation_config=settings)
    assert torch.equal(found, expected)
    assert not torch.equal(t5.generate(ids, generation_config=settings), expected)
