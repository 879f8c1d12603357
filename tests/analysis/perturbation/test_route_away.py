"""Whole experts are routed away from, or to them alone; what is no whole expert is refused."""

import copy
import functools

import polars as pl
import pytest
import torch
import transformers
from torch import Tensor, nn

from neuronlake.analysis.perturbation.ablation import ablate
from neuronlake.errors import AnalysisError, IngestError

WIDTH, N_EXPERTS = 24, 4
CONSTANTS = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MIXTURE = {
    **CONSTANTS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_experts": N_EXPERTS, "num_experts_per_tok": 2,
}  # fmt: skip
KINDS = {
    "olmoe": (transformers.OlmoeForCausalLM, transformers.OlmoeConfig(**MIXTURE, intermediate_size=WIDTH)),
    "qwen2-moe": (
        transformers.Qwen2MoeForCausalLM,
        transformers.Qwen2MoeConfig(
            **MIXTURE, intermediate_size=48, moe_intermediate_size=WIDTH, shared_expert_intermediate_size=40,
            mlp_only_layers=[0],
        ),
    ),
    "switch": (
        transformers.SwitchTransformersForConditionalGeneration,
        transformers.SwitchTransformersConfig(
            **CONSTANTS, d_model=32, d_ff=WIDTH, d_kv=8, num_layers=2, num_heads=4, decoder_start_token_id=0,
            num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, num_experts=N_EXPERTS, expert_capacity=3,
        ),
    ),
}  # fmt: skip


KINDS["mixtral"] = (
    transformers.MixtralForCausalLM,
    transformers.MixtralConfig(**MIXTURE | {"num_local_experts": N_EXPERTS}, intermediate_size=WIDTH),
)


@pytest.fixture(scope="module")
def model(built):
    """Return a function from a kind to a tiny random model, made once."""
    return functools.cache(lambda kind: built(*KINDS[kind]))


def run(model: nn.Module) -> Tensor:
    ids = torch.arange(24).reshape(2, 12) * 7 % 41 + 4
    more = {"decoder_input_ids": ids[:, :5] + 1} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **more)[0]


def rows(stack: str, layer: int, *experts: int) -> list[tuple[str, int, int]]:
    """Return all neurons of some experts."""
    return [(stack, layer, expert * WIDTH + unit) for expert in experts for unit in range(WIDTH)]


def without(model: nn.Module, neurons: list[tuple[str, int, int]]) -> nn.Module:
    """Return a copy that experts were cut out of: their weights, and their rows of the router."""
    smaller = copy.deepcopy(model)
    for stack, layer in {(stack, layer) for stack, layer, _ in neurons}:
        experts = {neuron // WIDTH for of_stack, of_layer, neuron in neurons if (of_stack, of_layer) == (stack, layer)}
        kept = sorted(set(range(N_EXPERTS)) - experts)
        if model.config.model_type == "switch_transformers":
            block = getattr(smaller, stack).block[layer].layer[-1].mlp
            router, weight = block.router, block.router.classifier
            members = [block.experts[f"expert_{expert}"] for expert in kept]
            block.experts.clear()
            block.experts.update({f"expert_{place}": member for place, member in enumerate(members)})
        else:
            block = smaller.model.layers[layer].mlp
            router = weight = block.gate
            for name in ("gate_up_proj", "down_proj"):
                setattr(block.experts, name, nn.Parameter(getattr(block.experts, name).detach()[kept]))
        weight.weight = nn.Parameter(weight.weight.detach()[kept])
        router.num_experts = block.experts.num_experts = len(kept)
    return smaller


SELECTED = {
    "olmoe": rows("decoder", 0, 1) + rows("decoder", 1, 0, 3),
    "qwen2-moe": rows("decoder", 1, 2),
    "switch": rows("encoder", 1, 0, 2) + rows("decoder", 1, 1),
    "mixtral": rows("decoder", 0, 1, 3),
}


def check_ablated(tiny, selected, kind, other):
    """Assert that the ablated model computes what another does, other than before, and is itself afterwards."""
    before, expected = run(tiny), run(other)
    assert not torch.allclose(expected, before, atol=1e-3)
    with ablate(tiny, selected, kind=kind):
        torch.testing.assert_close(run(tiny), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(run(tiny), before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_computes_as_if_it_had_no_such_experts(model, kind):
    tiny = model(kind)
    check_ablated(tiny, SELECTED[kind], "route-away", without(tiny, SELECTED[kind]))


def test_rows_come_in_any_order_and_from_any_table(model):
    tiny = model("olmoe")
    with ablate(tiny, SELECTED["olmoe"], kind="route-away"):
        expected = run(tiny)
    table = pl.DataFrame(SELECTED["olmoe"][::-1], schema=["stack", "layer", "neuron"], orient="row")
    with ablate(tiny, table, kind="route-away"):
        assert torch.equal(run(tiny), expected)


def test_no_neurons_leave_the_same_bits(model):
    tiny = model("olmoe")
    before = run(tiny)
    with ablate(tiny, [], kind="route-away"):
        assert torch.equal(run(tiny), before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_itself_again_after_an_exception(model, kind):
    tiny = model(kind)
    before = run(tiny)
    with pytest.raises(RuntimeError), ablate(tiny, SELECTED[kind], kind="route-away"):
        tiny(input_ids=torch.zeros(1, 2))  # no integers
    assert torch.equal(run(tiny), before)
    for each in tiny.modules():
        assert "forward" not in vars(each)
        assert not each._forward_pre_hooks
        assert not each._forward_hooks


def test_it_goes_together_with_other_kinds(model):
    tiny = model("olmoe")
    away, zeroed = rows("decoder", 0, 1), [("decoder", 0, 2 * WIDTH + 5), ("decoder", 1, 7)]
    smaller = without(tiny, away)
    with torch.no_grad():
        smaller.model.layers[0].mlp.experts.down_proj[1, :, 5] = 0  # expert 2 is the second of those left
        smaller.model.layers[1].mlp.experts.down_proj[0, :, 7] = 0
    with ablate(tiny, away, kind="route-away"), ablate(tiny, zeroed, kind="zero"):
        torch.testing.assert_close(run(tiny), run(smaller), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "neurons", "message"),
    [
        (
            "olmoe",
            rows("decoder", 0, 2) + rows("decoder", 1, 1)[3:],
            "^decoder layer 1, expert 1: 3 of its 24 neurons are missing; route-away takes whole experts$",
        ),
        (
            "qwen2-moe",
            [("decoder", 0, 7)],
            "^decoder layer 0, neuron 7 is of no routed expert: every token passes it, and route-away is about",
        ),
        ("qwen2-moe", [*rows("decoder", 1, 0), ("decoder", 1, 4 * WIDTH)], "^decoder layer 1, neuron 96 is of no"),
        ("switch", [("encoder", 0, 3)], "^encoder layer 0, neuron 3 is of no routed expert"),
    ],
)
def test_neurons_that_are_no_whole_experts_are_refused(model, kind, neurons, message):
    with pytest.raises(AnalysisError, match=message), ablate(model(kind), neurons, kind="route-away"):
        pytest.fail("is refused before anything runs")


def test_too_few_experts_left_are_refused(model):
    with (
        pytest.raises(IngestError, match="1 of 4 experts are left, its router sends a token to 2"),
        ablate(model("olmoe"), rows("decoder", 1, 0, 1, 2), kind="route-away"),
    ):
        pytest.fail("is refused before anything runs")


def masked_logits(model: nn.Module, neurons: list[tuple[str, int, int]]) -> nn.Module:
    """Return a copy whose routers are written out anew, with logits of minus infinity for all but some experts."""
    edited = copy.deepcopy(model)
    for stack, layer in {(stack, layer) for stack, layer, _ in neurons}:
        kept = {neuron // WIDTH for of_stack, of_layer, neuron in neurons if (of_stack, of_layer) == (stack, layer)}
        mask = torch.tensor([0.0 if expert in kept else -torch.inf for expert in range(N_EXPERTS)])
        if model.config.model_type == "switch_transformers":
            classifier = getattr(edited, stack).block[layer].layer[-1].mlp.router.classifier
            classifier.register_forward_hook(lambda _, __, logits, mask=mask: logits + mask)
        else:
            gate = edited.model.layers[layer].mlp.gate

            def forward(hidden, *, weight=gate.weight, mask=mask):
                logits = hidden.reshape(-1, hidden.shape[-1]) @ weight.T + mask
                best, index = logits.softmax(-1).topk(2)
                return logits, best / best.sum(-1, keepdim=True), index

            gate.forward = forward
    return edited


ONLY = {
    # Of two texts of 12 tokens, each expert of Switch takes 3 of a text, and the rest find no room.
    "switch": rows("encoder", 1, 0, 2) + rows("decoder", 1, 3),
    "mixtral": rows("decoder", 0, 1, 3) + rows("decoder", 1, 0, 1, 2),
}


@pytest.mark.parametrize("kind", ONLY)
def test_routing_to_some_experts_alone_is_what_masked_router_logits_do(model, kind):
    tiny = model(kind)
    check_ablated(tiny, ONLY[kind], "route-only", masked_logits(tiny, ONLY[kind]))
    assert all("forward" not in vars(each) and not each._forward_pre_hooks for each in tiny.modules())


def test_routing_to_all_experts_of_a_layer_changes_nothing(model):
    tiny = model("mixtral")
    before = run(tiny)
    with ablate(tiny, rows("decoder", 1, *range(N_EXPERTS)), kind="route-only"):
        assert torch.equal(run(tiny), before)


@pytest.mark.parametrize(
    ("kind", "neurons", "error", "message"),
    [
        (
            "mixtral", rows("decoder", 1, 2), IngestError,
            r"^layers\.1\.mlp\.experts: 1 of 4 experts are left, its router sends a token to 2; leave 2 at least$",
        ),
        (
            "mixtral", rows("decoder", 1, 2)[1:], AnalysisError,
            "^decoder layer 1, expert 2: 1 of its 24 neurons are missing; route-only takes whole experts$",
        ),
        (
            "qwen2-moe", [("decoder", 0, 7)], AnalysisError,
            "^decoder layer 0, neuron 7 is of no routed expert: every token passes it, and route-only is about what a",
        ),
    ],
    ids=["too few", "parts", "dense"],
)  # fmt: skip
def test_what_cannot_be_routed_to_alone_is_refused(model, kind, neurons, error, message):
    with pytest.raises(error, match=message), ablate(model(kind), neurons, kind="route-only"):
        pytest.fail("is refused before anything runs")


def test_it_has_no_scale(model):
    with (
        pytest.raises(AnalysisError, match=r"the kind route-away has no scale, 4\.0 was given; noise and shuffle have"),
        ablate(model("olmoe"), SELECTED["olmoe"], kind="route-away", scale=4.0),
    ):
        pytest.fail("is refused before anything runs")
