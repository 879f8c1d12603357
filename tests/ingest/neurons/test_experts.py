"""Experts are read as their router and weights imply."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from neuronlake.ingest.activations.capture import capture
from neuronlake.ingest.activations.pooling import Spans
from neuronlake.ingest.neurons.feed_forwards import Layer
from neuronlake.ingest.neurons.layers import find_layers

CONSTANTS = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
SIZE = {**CONSTANTS, **HEADS, "hidden_size": 32, "num_hidden_layers": 2}
DEEPSEEK = {
    **SIZE, "num_key_value_heads": 4, "intermediate_size": 48, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
}  # fmt: skip
SWITCH = {**CONSTANTS, "d_model": 32, "d_ff": 24, "d_kv": 8, "num_layers": 2, "num_heads": 4}
# Two texts of 12 tokens, the second padded to the right after 7; spans overlap and nest.
ROW = np.array([0, 0, 0, 1, 1, 1])
START = np.array([0, 3, 11, 0, 4, 2])
STOP = np.array([12, 5, 12, 7, 5, 4])
SPANS = Spans(ROW, START, STOP, (2, 12))
REDUCTIONS = {
    "max": lambda tokens: tokens.max(0).values,
    "mean": lambda tokens: tokens.mean(0),
    "abs_max": lambda tokens: tokens.abs().max(0).values,
    "last": lambda tokens: tokens[-1],
}


def inputs() -> dict[str, Tensor]:
    ids = torch.arange(24).reshape(2, 12) * 7 % 41 + 4
    mask = torch.ones_like(ids)
    ids[1, 7:], mask[1, 7:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


# What each router chooses, from its weights: [tokens, experts] of true and false.


def most_probable(n: int) -> Callable[[nn.Module, Tensor], Tensor]:
    def choose(router: nn.Module, hidden: Tensor) -> Tensor:
        logits = hidden @ router.weight.T + getattr(router, "bias", torch.zeros(1))
        return logits >= logits.sort(1, descending=True).values[:, n - 1 : n]

    return choose


def most_probable_after_correction(router: nn.Module, hidden: Tensor) -> Tensor:
    """Choose two experts."""
    scores = torch.sigmoid(hidden @ router.weight.T) + router.e_score_correction_bias
    return scores >= scores.sort(1, descending=True).values[:, 1:2]


def best_group_then_most_probable(router: nn.Module, hidden: Tensor) -> Tensor:
    """Choose two of the four experts of the better one of two groups."""
    scores = torch.sigmoid(hidden @ router.weight.T) + router.e_score_correction_bias
    halves = scores.reshape(-1, 2, 4)
    best = halves.sort(2).values[:, :, -2:].sum(2).argmax(1)
    is_chosen = torch.zeros_like(scores, dtype=torch.bool)
    for token, half in enumerate(best.tolist()):
        for place in halves[token, half].sort().indices[-2:].tolist():
            is_chosen[token, 4 * half + place] = True
    return is_chosen


def most_probable_while_there_is_room(router: nn.Module, hidden: Tensor) -> Tensor:
    """Choose one expert, which takes the first two tokens of a text only."""
    best = (hidden @ router.classifier.weight.T).argmax(1)
    is_chosen = torch.zeros((len(hidden), 4), dtype=torch.bool)
    for token, expert in enumerate(best.tolist()):
        text = token // 12 * 12
        is_chosen[token, expert] = bool((best[text:token] == expert).sum() < 2)
    return is_chosen


# What each expert makes of a token before its nonlinearity: gate and up, or up and None.


def concatenated(experts: nn.Module, expert: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
    both = hidden @ experts.gate_up_proj[expert].T
    return both[:, : both.shape[1] // 2], both[:, both.shape[1] // 2 :]


def interleaved_and_biased(experts: nn.Module, expert: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
    both = hidden @ experts.gate_up_proj[expert] + experts.gate_up_proj_bias[expert]
    return both[:, 0::2], both[:, 1::2]


def up_alone(experts: nn.Module, expert: int, hidden: Tensor) -> tuple[Tensor, None]:
    return hidden @ experts.up_proj[expert].T, None


def module_of(experts: nn.Module, expert: int, hidden: Tensor) -> tuple[Tensor, None]:
    return hidden @ experts[f"expert_{expert}"].wi.weight.T, None


def squared_relu(values: Tensor) -> Tensor:
    return functional.relu(values) ** 2


def clamped_gate(gate: Tensor) -> Tensor:
    gate = gate.clamp(max=1.5)
    return gate / (1 + torch.exp(-1.702 * gate))


@dataclass(frozen=True)
class Kind:
    """How a model's experts are found and computed, written by hand."""

    config: transformers.PreTrainedConfig
    blocks: dict[int, str]
    router: str
    n_experts: int
    choose: Callable[[nn.Module, Tensor], Tensor]
    project: Callable[[nn.Module, int, Tensor], tuple[Tensor, Tensor | None]]
    gate: Callable[[Tensor], Tensor] = functional.silu
    activate: Callable[[Tensor, Tensor], Tensor] = lambda gate, up: gate * up
    shared: str | None = None
    stack: str = "decoder"

    def sites(self) -> list[str]:
        return ["activation", "preactivation"] if self.gate in (squared_relu, functional.relu) else SITES


SITES = ["activation", "preactivation", "gate"]
BOTH = {0: "layers.0.mlp", 1: "layers.1.mlp"}
KINDS = {
    "mixtral": Kind(
        transformers.MixtralConfig(**SIZE, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2),
        BOTH, "gate", 4, most_probable(2), concatenated,
    ),
    "olmoe": Kind(
        transformers.OlmoeConfig(**SIZE, intermediate_size=24, num_experts=8, num_experts_per_tok=3),
        BOTH, "gate", 8, most_probable(3), concatenated,
    ),
    "qwen2-moe": Kind(
        transformers.Qwen2MoeConfig(
            **SIZE, intermediate_size=48, moe_intermediate_size=24, shared_expert_intermediate_size=40,
            num_experts=4, num_experts_per_tok=2, mlp_only_layers=[0],
        ),
        {1: "layers.1.mlp"}, "gate", 4, most_probable(2), concatenated, shared="shared_expert",
    ),
    "deepseek-v3": Kind(
        transformers.DeepseekV3Config(
            **DEEPSEEK, moe_intermediate_size=24, n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=2,
            n_group=2, topk_group=1, first_k_dense_replace=1,
        ),
        {1: "layers.1.mlp"}, "gate", 8, best_group_then_most_probable, concatenated, shared="shared_experts",
    ),
    "gpt-oss": Kind(
        transformers.GptOssConfig(
            **SIZE, intermediate_size=24, head_dim=8, num_local_experts=4, num_experts_per_tok=2, swiglu_limit=1.5,
        ),
        BOTH, "router", 4, most_probable(2), interleaved_and_biased, clamped_gate,
        lambda gate, up: (up.clamp(-1.5, 1.5) + 1) * gate,
    ),
    "nemotron-h": Kind(
        transformers.NemotronHConfig(
            **{key: value for key, value in SIZE.items() if key != "num_hidden_layers"}, intermediate_size=48,
            head_dim=8, layers_block_type=["moe", "attention", "mlp"], n_routed_experts=4, num_experts_per_tok=2,
            n_group=1, topk_group=1, moe_intermediate_size=24, moe_shared_expert_intermediate_size=40,
        ),
        {0: "layers.0.mixer"}, "gate", 4, most_probable_after_correction, up_alone, squared_relu,
        shared="shared_experts",
    ),
    "switch": Kind(
        transformers.SwitchTransformersConfig(
            **SWITCH, num_sparse_encoder_layers=1, num_experts=4, expert_capacity=2
        ),
        {1: "block.1.layer.1.mlp"}, "router", 4, most_probable_while_there_is_room, module_of, functional.relu,
        stack="encoder",
    ),
}  # fmt: skip
FUSED = [kind for kind in KINDS if kind != "switch"]


@pytest.fixture(scope="module")
def model() -> Callable[[str], tuple[nn.Module, tuple[Layer, ...]]]:
    """Return a function from a kind to a tiny random model and its layers."""
    made: dict[str, tuple[nn.Module, tuple[Layer, ...]]] = {}

    def get(name: str) -> tuple[nn.Module, tuple[Layer, ...]]:
        if name not in made:
            kind = KINDS[name]
            with torch.random.fork_rng():
                torch.manual_seed(3)
                whole = transformers.AutoModel.from_config(kind.config).eval()
                for key, each in [*whole.named_parameters(), *whole.named_buffers()]:
                    if "norm" not in key and ("weight" in key or "proj" in key or "bias" in key):
                        nn.init.normal_(each, std=0.3)  # so that all experts are chosen
            body = whole.get_encoder() if kind.config.is_encoder_decoder else whole
            made[name] = body, find_layers(body, body.config, stack=kind.stack, name="tiny")
        return made[name]

    return get


@dataclass(frozen=True)
class Recomputed:
    """Of one layer, by token: [texts, tokens, experts, width], [texts, tokens, experts], [texts, tokens, width]."""

    values: Tensor
    is_chosen: Tensor
    shared: Tensor | None


def recompute(name: str, module: nn.Module, site: str) -> dict[int, Recomputed]:
    """Compute every expert on every token from the weights, and what the router chooses."""
    kind, found = KINDS[name], {}
    hidden: dict[int, Tensor] = {}
    handles = [
        module.get_submodule(path).register_forward_pre_hook(
            lambda _, arguments, layer=layer: hidden.update({layer: arguments[0].reshape(24, 32).clone()})
        )
        for layer, path in kind.blocks.items()
    ]
    with torch.no_grad():
        module(**inputs())
        for layer, path in kind.blocks.items():
            block = module.get_submodule(path)
            is_chosen = kind.choose(block.get_submodule(kind.router), hidden[layer])
            projected = [kind.project(block.experts, expert, hidden[layer]) for expert in range(kind.n_experts)]
            values = torch.stack([at_site(kind, site, *each) for each in projected], 1)
            shared = None
            if kind.shared:
                network = block.get_submodule(kind.shared)
                gate = hidden[layer] @ network.gate_proj.weight.T if hasattr(network, "gate_proj") else None
                up = hidden[layer] @ network.up_proj.weight.T
                shared = at_site(kind, site, *((up, None) if gate is None else (gate, up))).reshape(2, 12, -1)
            found[layer] = Recomputed(values.reshape(2, 12, kind.n_experts, -1), is_chosen.reshape(2, 12, -1), shared)
    for handle in handles:
        handle.remove()
    return found


def at_site(kind: Kind, site: str, first: Tensor, up: Tensor | None) -> Tensor:
    if site == "preactivation":
        return first
    if up is None or site == "gate":
        return kind.gate(first)
    return kind.activate(kind.gate(first), up)


def pooled_by_hand(tokens: Tensor, pooling: str) -> Tensor:
    """Pool [texts, tokens, ...] into [instances, neurons]."""
    each = zip(ROW, START, STOP, strict=True)
    return torch.stack([REDUCTIONS[pooling](tokens[row, start:stop].flatten(1)) for row, start, stop in each])


def read(module: nn.Module, layers: tuple[Layer, ...], **how: str) -> tuple[dict[int, Tensor], list[Tensor]]:
    """Return the pooled values by layer, and the shares."""
    with torch.inference_mode(), capture(module, layers, **how) as reading:
        with reading.batch({layers[0].stack: SPANS}):
            module(**inputs())
        return dict(zip((layer.layer for layer in layers), reading.pooled(), strict=True)), reading.routed()


def assert_clean(module: nn.Module) -> None:
    for each in module.modules():
        assert not {"_apply_gate", "act_fn"} & vars(each).keys()
        assert not each._forward_pre_hooks
        assert not each._forward_hooks


@pytest.mark.parametrize("router", ["routed", "blind"])
@pytest.mark.parametrize(("name", "site"), [(name, site) for name, kind in KINDS.items() for site in kind.sites()])
def test_experts_hold_what_router_and_weights_imply(model, name, site, router):
    module, layers = model(name)
    brute = recompute(name, module, site)
    for pooling in REDUCTIONS:
        found, shares = read(module, layers, site=site, pooling=pooling, router=router)
        for (layer, each), share in zip(brute.items(), shares, strict=True):
            values = each.values if router == "blind" else each.values * each.is_chosen[..., None]
            expected = [pooled_by_hand(values, pooling)]
            if each.shared is not None:
                expected.append(pooled_by_hand(each.shared, pooling))
            torch.testing.assert_close(found[layer], torch.cat(expected, 1), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(share, pooled_by_hand(each.is_chosen.float(), "mean"))


@pytest.mark.parametrize("name", KINDS)
def test_every_expert_is_chosen_at_times_and_not_always(model, name):
    # Otherwise the tests above would prove less than they seem to.
    for each in recompute(name, model(name)[0], "activation").values():
        n_chosen = each.is_chosen.flatten(0, 1).sum(0)
        assert (n_chosen < 24).all()
        assert (n_chosen > 0).sum() >= 3


def test_switch_drops_tokens_beyond_its_capacity(model):
    _, (share,) = read(*model("switch"))
    assert share[0].sum() < 1


@pytest.mark.parametrize("name", FUSED)
def test_shares_of_an_instance_sum_to_the_experts_of_a_token(model, name):
    n_chosen = KINDS[name].config.num_experts_per_tok
    for router in ("routed", "blind"):
        for share in read(*model(name), router=router)[1]:
            torch.testing.assert_close(share.sum(1), torch.full((len(ROW),), float(n_chosen)))


@pytest.mark.parametrize("router", ["routed", "blind"])
@pytest.mark.parametrize(("name", "site"), [(name, site) for name, kind in KINDS.items() for site in kind.sites()])
def test_outputs_are_the_same_bits_with_and_without_capture(model, name, site, router):
    module, layers = model(name)
    with torch.inference_mode():
        before = module(**inputs()).last_hidden_state
        with capture(module, layers, site=site, router=router) as reading:
            with reading.batch({layers[0].stack: SPANS}):
                during = module(**inputs()).last_hidden_state
            outside = module(**inputs()).last_hidden_state
        after = module(**inputs()).last_hidden_state
    for found in (during, outside, after):
        assert torch.equal(found, before)
    assert_clean(module)


@pytest.fixture
def implementation(model) -> Iterator[Callable[[str, str], None]]:
    """Return a function that sets a model's implementation of experts until the test ends."""
    changed: list[nn.Module] = []

    def change(name: str, to: str) -> None:
        module, _ = model(name)
        changed.append(module)
        module.set_experts_implementation(to)

    yield change
    for module in changed:
        module.set_experts_implementation("grouped_mm")


@pytest.mark.parametrize("router", ["routed", "blind"])
@pytest.mark.parametrize("name", FUSED)
def test_both_implementations_are_read_alike(model, implementation, name, router):
    module, layers = model(name)
    for site in KINDS[name].sites():
        implementation(name, "grouped_mm")
        grouped, shares = read(module, layers, site=site, router=router)
        implementation(name, "batched_mm")
        batched, batched_shares = read(module, layers, site=site, router=router)
        for layer, values in grouped.items():
            torch.testing.assert_close(batched[layer], values, atol=1e-5, rtol=1e-5)
        for one, other in zip(shares, batched_shares, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_half_precision_holds_what_its_own_routers_choice_implies(model, name, dtype):
    module, layers = model(name)
    half = type(module)(module.config).to(dtype).eval()
    half.load_state_dict(module.state_dict())
    rows: list[tuple[Tensor, Tensor]] = []
    network = layers[-1].experts or layers[0].experts
    handle = half.get_submodule(network.path).register_forward_pre_hook(
        lambda _, arguments: rows.append((arguments[0].clone(), arguments[1].clone()))
    )
    found, _ = read(half, [layer for layer in layers if layer.experts is network], pooling="last")
    handle.remove()
    kind, (hidden, chosen) = KINDS[name], rows[0]
    if name == "switch":
        is_chosen = chosen.reshape(24, 4).bool()
    else:
        is_chosen = torch.zeros((24, kind.n_experts), dtype=torch.bool).scatter_(1, chosen, value=True)
    experts = half.get_submodule(network.path)
    with torch.no_grad():
        each = [at_site(kind, "activation", *kind.project(experts, e, hidden)) for e in range(kind.n_experts)]
    values = torch.stack(each, 1) * is_chosen[..., None]
    expected = pooled_by_hand(values.reshape(2, 12, kind.n_experts, -1), "last")
    (values,) = found.values()
    assert values.dtype == dtype
    tolerance = 2e-2 if dtype == torch.float16 else 1e-1
    torch.testing.assert_close(values[:, : expected.shape[1]], expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("router", ["routed", "blind"])
@pytest.mark.parametrize("name", KINDS)
def test_nothing_stays_on_the_module_after_an_exception(model, name, router):
    module, layers = model(name)
    with (
        pytest.raises(IndexError),
        torch.inference_mode(),
        capture(module, layers, router=router) as reading,
        reading.batch({layers[0].stack: SPANS}),
    ):
        module(input_ids=torch.tensor([[10_000]]))
    assert_clean(module)
    with pytest.raises(KeyError), capture(module, layers, router=router):
        raise KeyError
    assert_clean(module)
