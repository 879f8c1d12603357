"""What is written goes on through the model; what is written back as read changes nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from neuronlake.errors import IngestError
from neuronlake.ingest.activations.capture import capture
from neuronlake.ingest.activations.pooling import Spans
from neuronlake.ingest.neurons.feed_forwards import Layer
from neuronlake.ingest.neurons.hooks import hooked
from neuronlake.ingest.neurons.layers import find_layers

CONSTANTS = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {**CONSTANTS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SIZE, "num_key_value_heads": 2}
T5 = {**CONSTANTS, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4}
CONFIGS = {
    "bert": transformers.BertConfig(**SIZE, intermediate_size=48),
    "gpt2": transformers.GPT2Config(**CONSTANTS, n_embd=32, n_inner=48, n_layer=2, n_head=4, n_positions=32),
    "llama": transformers.LlamaConfig(**GROUPED, intermediate_size=48),
    "phi3": transformers.Phi3Config(**SIZE, intermediate_size=48),
    "t5-gated": transformers.T5Config(**T5, feed_forward_proj="gated-gelu"),
    "modernbert": transformers.ModernBertConfig(**SIZE, intermediate_size=48, cls_token_id=1, sep_token_id=2),
    "albert": transformers.AlbertConfig(**SIZE, intermediate_size=48, embedding_size=16),
    "xlnet": transformers.XLNetConfig(**CONSTANTS, d_model=32, d_inner=48, n_layer=2, n_head=4),
    "mixtral": transformers.MixtralConfig(
        **GROUPED, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2
    ),
    "gpt-oss": transformers.GptOssConfig(
        **GROUPED, intermediate_size=24, head_dim=8, num_local_experts=4, num_experts_per_tok=2
    ),
    "nemotron-h": transformers.NemotronHConfig(
        **{key: value for key, value in GROUPED.items() if key != "num_hidden_layers"}, intermediate_size=48,
        head_dim=8, layers_block_type=["moe", "attention", "mlp"], n_routed_experts=4, num_experts_per_tok=2, n_group=1,
        topk_group=1, moe_intermediate_size=24, moe_shared_expert_intermediate_size=40,
    ),
    "switch": transformers.SwitchTransformersConfig(**T5, num_sparse_encoder_layers=1, num_experts=4),
}  # fmt: skip
GATED = ("llama", "phi3", "t5-gated", "modernbert")
FUSED_AND_GATED = ("mixtral", "gpt-oss")
# Every site that can be written.
CASES = [(name, site) for name in CONFIGS for site in ("activation", "preactivation")]
CASES += [(name, "gate") for name in GATED]
SPANS = Spans(np.array([0, 0, 1]), np.array([0, 3, 2]), np.array([12, 5, 9]), (2, 12))


@pytest.fixture(scope="module")
def model() -> Callable[[str], tuple[nn.Module, tuple[Layer, ...]]]:
    """Return a function from a kind to a tiny random model and its layers."""
    made: dict[str, tuple[nn.Module, tuple[Layer, ...]]] = {}

    def get(name: str) -> tuple[nn.Module, tuple[Layer, ...]]:
        if name not in made:
            with torch.random.fork_rng():
                torch.manual_seed(3)
                module = transformers.AutoModel.from_config(CONFIGS[name]).eval()
                for key, each in module.named_parameters():
                    if "norm" not in key.lower():
                        nn.init.normal_(each, std=0.2)
            stack = "encoder" if module.config.is_encoder_decoder else "decoder"
            body = module.get_encoder() if stack == "encoder" else module
            made[name] = body, find_layers(body, body.config, stack=stack, name="tiny")
        return made[name]

    return get


def run(module: nn.Module) -> Tensor:
    ids = torch.arange(24).reshape(2, 12) * 7 % 41 + 4
    with torch.inference_mode():
        return module(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


def assert_clean(module: nn.Module) -> None:
    for each in module.modules():
        assert not {"_apply_gate", "act_fn"} & vars(each).keys()
        assert not each._forward_pre_hooks
        assert not each._forward_hooks


@pytest.mark.parametrize(
    "same",
    [lambda values: values, lambda values: values.clone(), lambda values: values.mT.contiguous().mT],
    ids=["the same", "a copy", "a copy in another layout"],
)
@pytest.mark.parametrize(("name", "site"), CASES)
def test_writing_back_what_was_read_leaves_outputs_the_same_bits(model, name, site, same):
    module, layers = model(name)
    before = run(module)
    with hooked(module, layers, lambda _, seen: same(seen.values), site=site):
        during = run(module)
    assert torch.equal(during, before)
    assert torch.equal(run(module), before)
    assert_clean(module)


@pytest.mark.parametrize(("name", "site"), CASES)
def test_what_is_written_changes_what_the_model_computes(model, name, site):
    module, layers = model(name)
    before = run(module)
    for layer in layers:
        with hooked(module, [layer], lambda _, seen: seen.values + 1, site=site):
            assert not torch.allclose(run(module), before, atol=1e-3)
    assert torch.equal(run(module), before)


def test_every_network_is_shown_with_values_of_its_width(model):
    for name in CONFIGS:
        module, layers = model(name)
        shown = []

        def note(network, seen, shown=shown):
            shown.append(network)
            assert seen.values.shape[-1] == network.width
            assert (seen.token is None) == (seen.expert is None) == (network.n_experts is None)
            return seen.values

        with hooked(module, layers, note):
            run(module)
        assert set(shown) == {network for layer in layers for network in layer.feed_forwards}


def feed_forward_outputs(module: nn.Module, path: str) -> tuple[list[Tensor], torch.utils.hooks.RemovableHandle]:
    outputs: list[Tensor] = []
    handle = module.get_submodule(path).register_forward_hook(lambda _, __, output: outputs.append(output.clone()))
    return outputs, handle


def test_a_neuron_set_to_zero_takes_its_contribution_from_the_networks_output(model):
    module, layers = model("llama")
    neuron = 7
    (network,) = layers[0].feed_forwards
    activations = []

    def silence(_, seen):
        activations.append(seen.values[..., neuron].clone())
        changed = seen.values.clone()
        changed[..., neuron] = 0
        return changed

    outputs, handle = feed_forward_outputs(module, "layers.0.mlp")
    run(module)
    with hooked(module, layers[:1], silence):
        run(module)
    handle.remove()
    contribution = activations[0][..., None] * module.get_submodule(network.path).weight[:, neuron].detach()
    assert contribution.abs().max() > 0.01
    torch.testing.assert_close(outputs[1], outputs[0] - contribution, atol=1e-5, rtol=1e-5)


def test_a_neuron_of_an_expert_set_to_zero_takes_its_weighted_contribution(model):
    module, layers = model("mixtral")
    expert, neuron = 2, 5
    rows = {}

    def silence(_, seen):
        changed = seen.values.clone()
        changed[seen.expert == expert, neuron] = 0
        of = seen.expert == expert
        rows.update(token=seen.token[of].clone(), activation=seen.values[of, neuron].clone())
        return changed

    block = module.layers[0].mlp
    arguments = []
    look = block.experts.register_forward_pre_hook(lambda _, given: arguments.append([each.clone() for each in given]))
    outputs, handle = feed_forward_outputs(module, "layers.0.mlp")
    run(module)
    with hooked(module, layers[:1], silence):
        run(module)
    handle.remove()
    look.remove()
    _, index, weights = arguments[0]
    expected = outputs[0].reshape(24, 32).clone()
    for token, activation in zip(rows["token"].tolist(), rows["activation"], strict=True):
        weight = weights[token, index[token] == expert]
        expected[token] -= weight * activation * block.experts.down_proj[expert][:, neuron].detach()
    assert len(rows["token"])
    torch.testing.assert_close(outputs[1].reshape(24, 32), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FUSED_AND_GATED)
def test_the_gate_of_experts_in_one_tensor_can_be_read_but_not_written(model, name):
    module, layers = model(name)
    with (
        pytest.raises(
            IngestError,
            match=r"layers\.0\.mlp\.experts: the gate of experts held in one tensor can be read, not written",
        ),
        hooked(module, layers, lambda _, seen: seen.values, site="gate"),
    ):
        run(module)
    assert_clean(module)


@pytest.mark.parametrize("name", ["bert", "switch", "nemotron-h"])
def test_the_gate_of_a_network_that_is_not_gated_is_refused(model, name):
    module, layers = model(name)
    with (
        pytest.raises(IngestError, match="not gated"),
        hooked(module, layers, lambda _, seen: seen.values, site="gate"),
    ):
        run(module)
    assert_clean(module)


@pytest.mark.parametrize("name", ["bert", "phi3", "mixtral", "nemotron-h", "switch"])
def test_values_of_another_shape_are_refused(model, name):
    module, layers = model(name)
    with (
        pytest.raises(IngestError, match=r"cannot be written where \(.*\) torch.float32 was read"),
        hooked(module, layers, lambda _, seen: seen.values[:1]),
    ):
        run(module)
    assert_clean(module)


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_stays_on_the_module_after_an_exception(model, name):
    module, layers = model(name)

    def fail(_, __):
        raise KeyError

    with pytest.raises(KeyError), hooked(module, layers, fail):
        run(module)
    assert_clean(module)


def read(module: nn.Module, layers: tuple[Layer, ...], site: str) -> list[Tensor]:
    with capture(module, layers, site=site) as reading:
        with reading.batch({layers[0].stack: SPANS}):
            run(module)
        return reading.pooled()


@pytest.mark.parametrize(("name", "site"), CASES)
def test_capture_within_intervention_sees_the_changed_values(model, name, site):
    module, layers = model(name)
    before, whole = run(module), read(module, layers, site)
    with hooked(module, layers, lambda _, seen: torch.full_like(seen.values, 0.5), site=site):
        changed = run(module)
        found = read(module, layers, site)
        assert torch.equal(run(module), changed)  # capture took nothing of the intervention with it
    assert_clean(module)
    for layer, values in zip(layers, found, strict=True):
        is_sent = values != 0 if layer.experts else torch.ones_like(values, dtype=torch.bool)
        assert is_sent.any()
        assert (values[is_sent] == 0.5).all()
    assert torch.equal(run(module), before)
    for again, values in zip(read(module, layers, site), whole, strict=True):
        assert torch.equal(again, values)


@pytest.mark.parametrize("name", ["llama", "mixtral", "nemotron-h", "switch"])
def test_interventions_within_one_another_both_act(model, name):
    module, layers = model(name)
    with hooked(module, layers, lambda _, seen: seen.values * 4):
        expected = run(module)
    with (
        hooked(module, layers, lambda _, seen: seen.values * 2),
        hooked(module, layers, lambda _, seen: seen.values * 2),
    ):
        found = run(module)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert_clean(module)


@pytest.mark.parametrize("name", ["mixtral", "nemotron-h", "switch"])
def test_a_blind_capture_within_intervention_leaves_it_as_it_is(model, name):
    # Every expert runs on every token beside the model; that is not what is intervened on.
    module, layers = model(name)
    with hooked(module, layers, lambda _, seen: seen.values * 2):
        expected = run(module)
        with torch.inference_mode(), capture(module, layers, router="blind") as reading:
            with reading.batch({layers[0].stack: SPANS}):
                found = run(module)
            assert len(reading.pooled()) == len(layers)
    assert torch.equal(found, expected)
    assert_clean(module)
