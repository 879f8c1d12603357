"""The vectors and norms of neurons are those of their weights, however these are kept."""

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from neuronlake.errors import IngestError, UnknownNameError
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load
from neuronlake.ingest.neurons.feed_forwards import FeedForward, Layer, Place
from neuronlake.ingest.neurons.layers import find_layers
from neuronlake.ingest.neurons.weights import weight_norms, weight_vectors

CONSTANTS = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {
    **CONSTANTS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


# Of each model's layer 0: the output and the input weights of the neurons, as [neurons, hidden], written by hand.
WEIGHTS = {
    "bert": lambda m: (m.encoder.layer[0].output.dense.weight.T, [m.encoder.layer[0].intermediate.dense.weight]),
    "llama": lambda m: (
        m.layers[0].mlp.down_proj.weight.T,
        [m.layers[0].mlp.gate_proj.weight, m.layers[0].mlp.up_proj.weight],
    ),
    "gpt2": lambda m: (m.h[0].mlp.c_proj.weight, [m.h[0].mlp.c_fc.weight.T]),
    "t5": lambda m: (
        m.block[0].layer[1].DenseReluDense.wo.weight.T,
        [m.block[0].layer[1].DenseReluDense.wi.weight],
    ),
    "t5-gated": lambda m: (
        m.block[0].layer[1].DenseReluDense.wo.weight.T,
        [m.block[0].layer[1].DenseReluDense.wi_0.weight, m.block[0].layer[1].DenseReluDense.wi_1.weight],
    ),
}


def norms(weights: list[Tensor]) -> Tensor:
    """Return the norms of rows, over all matrices together."""
    return torch.cat([each.detach() for each in weights], dim=1).double().norm(dim=1).float()


def check(module: nn.Module, layer: Layer, inputs: list[list[Tensor]], outputs: list[Tensor]) -> None:
    """Hold a layer's norms and vectors against its networks' or experts' weights [neurons, hidden], in order.

    Of two input weights the first are the gate's.
    """
    input_norms, output_norms = weight_norms(module, layer)
    assert input_norms.dtype == output_norms.dtype == torch.float32
    assert input_norms.shape == output_norms.shape == (layer.n_neurons,)
    torch.testing.assert_close(input_norms, torch.cat([norms(each) for each in inputs]))
    torch.testing.assert_close(output_norms, torch.cat([norms([each]) for each in outputs]))
    expected = {"input": [torch.cat(each, dim=1) for each in inputs], "output": outputs}
    if all(len(each) == 2 for each in inputs):
        expected |= {"gate": [gate for gate, _ in inputs], "up": [up for _, up in inputs]}
    for kind, weights in expected.items():
        vectors = weight_vectors(module, layer, kind)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, torch.cat(weights).detach().numpy())


def tiny(config: transformers.PreTrainedConfig, stack: str = "decoder") -> tuple[nn.Module, tuple[Layer, ...]]:
    module = transformers.AutoModel.from_config(config).eval()
    for each in module.parameters():
        nn.init.normal_(each)
    body = module.get_encoder() if config.is_encoder_decoder else module
    return body, find_layers(body, body.config, stack=stack, name="tiny")


@pytest.mark.parametrize("kind", WEIGHTS)
def test_norms_and_vectors_are_those_of_the_weights(tiny_model, kind):
    model = load(Checkpoint(str(tiny_model(kind))))
    (part,) = model.parts
    layers = find_layers(model.module, part.config, stack=part.stack, name=model.name, root=part.path)
    output, inputs = WEIGHTS[kind](model.module)
    check(model.module, layers[0], [inputs], [output])


def test_norms_of_a_fused_gate_take_gate_and_up_together():
    module, layers = tiny(transformers.Phi3Config(**SIZE, intermediate_size=64))
    mlp = module.layers[0].mlp
    check(module, layers[0], [list(mlp.gate_up_proj.weight.split(64))], [mlp.down_proj.weight.T])


def test_norms_of_experts_stand_in_the_order_of_their_neurons():
    module, layers = tiny(transformers.MixtralConfig(**SIZE, intermediate_size=24, num_local_experts=4))
    experts = module.layers[1].mlp.experts
    inputs = [list(experts.gate_up_proj[expert].split(24)) for expert in range(4)]
    check(module, layers[1], inputs, [experts.down_proj[expert].T for expert in range(4)])


def test_norms_of_transposed_and_interleaved_experts_are_those_of_each_neurons_own_weights():
    module, layers = tiny(transformers.GptOssConfig(**SIZE, head_dim=8, intermediate_size=24, num_local_experts=4))
    experts = module.layers[0].mlp.experts
    inputs = [[experts.gate_up_proj[expert][:, 0::2].T, experts.gate_up_proj[expert][:, 1::2].T] for expert in range(4)]
    check(module, layers[0], inputs, [experts.down_proj[expert] for expert in range(4)])


def test_norms_of_experts_that_are_not_gated_and_of_the_shared_one_behind_them():
    config = transformers.NemotronHConfig(
        **{key: value for key, value in SIZE.items() if key != "num_hidden_layers"}, intermediate_size=48, head_dim=8,
        layers_block_type=["moe", "attention"], n_routed_experts=4, n_group=1, topk_group=1,
        moe_intermediate_size=24, moe_shared_expert_intermediate_size=40,
    )  # fmt: skip
    module, layers = tiny(config)
    mixer = module.layers[0].mixer
    inputs = [[mixer.experts.up_proj[expert]] for expert in range(4)] + [[mixer.shared_experts.up_proj.weight]]
    outputs = [mixer.experts.down_proj[expert].T for expert in range(4)] + [mixer.shared_experts.down_proj.weight.T]
    check(module, layers[0], inputs, outputs)


def test_norms_of_experts_that_are_modules():
    config = transformers.SwitchTransformersConfig(
        **CONSTANTS, d_model=32, d_ff=24, d_kv=8, num_layers=2, num_heads=4, num_sparse_encoder_layers=1, num_experts=4
    )
    module, layers = tiny(config, "encoder")
    experts = [module.block[1].layer[1].mlp.experts[f"expert_{expert}"] for expert in range(4)]
    check(module, layers[1], [[each.wi.weight] for each in experts], [each.wo.weight.T for each in experts])


def test_a_gate_that_stands_second_is_known_by_its_name():
    module = nn.ModuleDict({"up": nn.Linear(6, 9), "gate": nn.Linear(6, 9), "down": nn.Linear(9, 6)})
    network = FeedForward(
        down=Place("down"), n_neurons=9, n_experts=None, members=(), input_paths=("up", "gate"), nonlinearity=None,
        activation_function="silu", is_gated=True,
    )  # fmt: skip
    weights = [module[name].weight for name in ("gate", "up")]
    check(module, Layer("decoder", 0, (network,)), [weights], [module["down"].weight.T])


@pytest.mark.parametrize("kind", ["gate", "up"])
def test_gate_and_up_of_a_network_without_a_gate_are_refused(kind):
    module, layers = tiny(transformers.BertConfig(**{**SIZE, "num_key_value_heads": None}, intermediate_size=64))
    with pytest.raises(IngestError, match=f"decoder layer 1: encoder.layer.1.output.dense is not gated, .* {kind}"):
        weight_vectors(module, layers[1], kind)


def test_an_unknown_kind_of_weights_is_refused():
    module, layers = tiny(transformers.BertConfig(**{**SIZE, "num_key_value_heads": None}, intermediate_size=64))
    with pytest.raises(UnknownNameError, match="no kind of weights 'inputs'; did you mean 'input'"):
        weight_vectors(module, layers[0], "inputs")


def test_networks_of_one_layer_whose_weights_differ_in_length_have_no_common_vectors():
    module = nn.ModuleDict({name: nn.Linear(size, size) for name, size in (("a", 5), ("b", 5), ("c", 7), ("d", 7))})
    networks = tuple(
        FeedForward(
            down=Place(down), n_neurons=size, n_experts=None, members=(), input_paths=(up,), nonlinearity=None,
            activation_function="relu", is_gated=False,
        )
        for up, down, size in (("a", "b", 5), ("c", "d", 7))
    )  # fmt: skip
    with pytest.raises(IngestError, match="encoder layer 0: its neurons have input weights of 5 or 7 numbers"):
        weight_vectors(module, Layer("encoder", 0, networks), "input")


def test_norms_of_half_precision_weights_do_not_overflow():
    module, layers = tiny(transformers.BertConfig(**{**SIZE, "num_key_value_heads": None}, intermediate_size=64))
    module.half()
    for name in ("intermediate.dense", "output.dense"):
        module.encoder.layer[0].get_submodule(name).weight.data.fill_(60000.0)
    input_norms, output_norms = weight_norms(module, layers[0])
    torch.testing.assert_close(input_norms, torch.full((64,), 60000 * 32**0.5))
    torch.testing.assert_close(output_norms, input_norms)


class Packed(nn.Module):
    """A linear layer that keeps its weights as bytes and a scale a row, as quantisations do."""

    def __init__(self, weight: Tensor, *, dtype: torch.dtype, is_biased: bool) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        scale = weight.abs().amax(1, keepdim=True) / 127
        self.register_buffer("packed", (weight / scale).round().to(torch.int8).T.contiguous())  # as kernels want it
        self.register_buffer("scale", scale.to(dtype))
        self.bias = nn.Parameter(torch.randn(self.out_features, dtype=dtype)) if is_biased else None

    def unpacked(self) -> Tensor:
        return self.packed.T.to(self.scale.dtype) * self.scale

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.unpacked(), self.bias)


@pytest.mark.parametrize("is_biased", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_norms_of_packed_weights_are_those_of_what_the_layer_computes(dtype, is_biased):
    torch.manual_seed(0)
    module = nn.ModuleDict(
        {
            "up": Packed(torch.randn(1100, 6), dtype=dtype, is_biased=is_biased),
            "down": Packed(torch.randn(6, 1100), dtype=dtype, is_biased=is_biased),  # more inputs than go at a time
        }
    )
    network = FeedForward(
        down=Place("down"), n_neurons=1100, n_experts=None, members=(), input_paths=("up",), nonlinearity=None,
        activation_function="relu", is_gated=False,
    )  # fmt: skip
    input_norms, output_norms = weight_norms(module, Layer("encoder", 0, (network,)))
    # With a bias, what is left of a weight in half precision is rounded.
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    for found, expected in (
        (input_norms, norms([module["up"].unpacked()])),
        (output_norms, norms([module["down"].unpacked().T])),
    ):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    vectors = torch.from_numpy(weight_vectors(module, Layer("encoder", 0, (network,)), "input"))
    torch.testing.assert_close(vectors, module["up"].unpacked().float(), atol=tolerance, rtol=tolerance)
