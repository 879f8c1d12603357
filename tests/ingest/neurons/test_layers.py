"""Where the neurons of an architecture are."""

import pytest
import torch
import transformers

from neuronlake.errors import IngestError
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load
from neuronlake.ingest.neurons.feed_forwards import FeedForward, Layer, Place
from neuronlake.ingest.neurons.hooks import check_site
from neuronlake.ingest.neurons.layers import find_layers

SIZE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SIZE, "num_key_value_heads": 2}
CONSTANTS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"vocab_size": 50, "d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4}
SWITCH = {**T5, "num_experts": 4}


def layers_of(config, stack: str = "encoder", *, path: str = "") -> tuple[torch.nn.Module, tuple[Layer, ...]]:
    model = transformers.AutoModel.from_config(config).eval()
    return model, find_layers(model, model.config, stack=stack, name="tiny", root=path)


def shape_of(layer: Layer) -> list[tuple[str, int, int | None]]:
    """Return path, neurons and experts of each network of a layer."""
    return [(each.path, each.n_neurons, each.n_experts) for each in layer.feed_forwards]


@pytest.mark.parametrize(
    ("kind", "stack", "path", "inputs", "nonlinearity", "activation_function"),
    [
        ("bert", "encoder", "encoder.layer.1.output.dense", ["encoder.layer.1.intermediate.dense"],
         "encoder.layer.1.intermediate.intermediate_act_fn", "gelu"),
        ("roberta", "encoder", "encoder.layer.1.output.dense", ["encoder.layer.1.intermediate.dense"],
         "encoder.layer.1.intermediate.intermediate_act_fn", "gelu"),
        ("llama", "decoder", "layers.1.mlp.down_proj", ["layers.1.mlp.gate_proj", "layers.1.mlp.up_proj"],
         "layers.1.mlp.act_fn", "silu"),
        ("gpt2", "decoder", "h.1.mlp.c_proj", ["h.1.mlp.c_fc"], "h.1.mlp.act", "gelu_new"),
        ("t5", "encoder", "block.1.layer.1.DenseReluDense.wo", ["block.1.layer.1.DenseReluDense.wi"],
         "block.1.layer.1.DenseReluDense.act", "relu"),
        ("t5-gated", "encoder", "block.1.layer.1.DenseReluDense.wo",
         ["block.1.layer.1.DenseReluDense.wi_0", "block.1.layer.1.DenseReluDense.wi_1"],
         "block.1.layer.1.DenseReluDense.act", "gelu_new"),
    ],
)  # fmt: skip
def test_every_layer_of_a_tiny_model_is_found(tiny_model, kind, stack, path, inputs, nonlinearity, activation_function):
    model = load(Checkpoint(str(tiny_model(kind))))
    (part,) = model.parts
    assert part.stack == stack
    layers = find_layers(model.module, part.config, stack=part.stack, name=model.name, root=part.path)
    assert [layer.layer for layer in layers] == [0, 1]
    network = FeedForward(
        down=Place(path),
        n_neurons=64,
        n_experts=None,
        members=(),
        input_paths=tuple(inputs),
        nonlinearity=Place(nonlinearity),
        activation_function=activation_function,
        is_gated=len(inputs) == 2,
    )
    assert layers[1] == Layer(stack, 1, (network,))
    assert (layers[1].n_neurons, layers[1].experts) == (64, None)


@pytest.mark.parametrize(
    ("config", "stack", "path", "is_gated"),
    [
        (transformers.DistilBertConfig(vocab_size=50, dim=32, hidden_dim=64, n_layers=2, n_heads=4), "encoder",
         "transformer.layer.{}.ffn.lin2", False),
        (transformers.ModernBertConfig(**SIZE, cls_token_id=1, sep_token_id=2), "encoder", "layers.{}.mlp.Wo", True),
        (transformers.GPTNeoXConfig(**SIZE), "decoder", "layers.{}.mlp.dense_4h_to_h", False),
        (transformers.Gemma2Config(**GROUPED, head_dim=8), "decoder", "layers.{}.mlp.down_proj", True),
        (transformers.Phi3Config(**SIZE), "decoder", "layers.{}.mlp.down_proj", True),
        # Attention as wide as the feed-forward network: distinguished by where it is.
        (transformers.Qwen3Config(**GROUPED, head_dim=16), "decoder", "layers.{}.mlp.down_proj", True),
        (transformers.PhiConfig(**SIZE), "decoder", "layers.{}.mlp.fc2", False),
        (transformers.OPTConfig(vocab_size=50, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
                                word_embed_proj_dim=32), "decoder", "decoder.layers.{}.fc2", False),
        (transformers.BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=4), "decoder",
         "h.{}.mlp.dense_4h_to_h", False),
        (transformers.MptConfig(vocab_size=50, d_model=16, n_layers=2, n_heads=4), "decoder",
         "blocks.{}.ffn.down_proj", False),
        (transformers.OpenAIGPTConfig(vocab_size=50, n_embd=16, n_layer=2, n_head=4, n_positions=32), "decoder",
         "h.{}.mlp.c_proj", False),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "to_dict") else "",
)  # fmt: skip
def test_other_architectures_are_found_by_their_structure(config, stack, path, is_gated):
    _, layers = layers_of(config, stack)
    assert [shape_of(layer) for layer in layers] == [[(path.format(0), 64, None)], [(path.format(1), 64, None)]]
    assert {(layer.stack, layer.feed_forwards[0].is_gated) for layer in layers} == {(stack, is_gated)}


@pytest.mark.parametrize(
    ("config", "encoder", "decoder"),
    [
        (
            transformers.BartConfig(
                vocab_size=50, d_model=32, encoder_layers=2, decoder_layers=3, encoder_ffn_dim=64,
                decoder_ffn_dim=48, encoder_attention_heads=4, decoder_attention_heads=4,
            ),
            [("encoder.layers.0.fc2", 64), ("encoder.layers.1.fc2", 64)],
            [("decoder.layers.0.fc2", 48), ("decoder.layers.1.fc2", 48), ("decoder.layers.2.fc2", 48)],
        ),
        (
            transformers.T5Config(**T5, num_decoder_layers=3),
            [(f"encoder.block.{index}.layer.1.DenseReluDense.wo", 64) for index in range(2)],
            [(f"decoder.block.{index}.layer.2.DenseReluDense.wo", 64) for index in range(3)],
        ),
    ],
    ids=["bart", "t5"],
)  # fmt: skip
def test_the_stacks_of_an_encoder_decoder_are_found_apart(config, encoder, decoder):
    for stack, expected in (("encoder", encoder), ("decoder", decoder)):
        _, layers = layers_of(config, stack, path=stack)
        assert [(layer.feed_forwards[0].path, layer.n_neurons) for layer in layers] == expected
        assert [layer.layer for layer in layers] == list(range(len(expected)))


@pytest.mark.parametrize(
    ("config", "stack", "expected"),
    [
        (transformers.MixtralConfig(**GROUPED, num_local_experts=4), "decoder",
         [[("layers.0.mlp.experts", 256, 4)], [("layers.1.mlp.experts", 256, 4)]]),
        (transformers.OlmoeConfig(**GROUPED, num_experts=4, num_experts_per_tok=2), "decoder",
         [[("layers.0.mlp.experts", 256, 4)], [("layers.1.mlp.experts", 256, 4)]]),
        (transformers.GptOssConfig(**GROUPED, head_dim=8, num_local_experts=4), "decoder",
         [[("layers.0.mlp.experts", 256, 4)], [("layers.1.mlp.experts", 256, 4)]]),
        # A dense layer, then experts with a shared one beside them.
        (transformers.Qwen2MoeConfig(**GROUPED, moe_intermediate_size=24, shared_expert_intermediate_size=40,
                                     num_experts=4, mlp_only_layers=[0]), "decoder",
         [[("layers.0.mlp.down_proj", 64, None)],
          [("layers.1.mlp.experts", 96, 4), ("layers.1.mlp.shared_expert.down_proj", 40, None)]]),
        # Two shared experts are one network of twice the width.
        (transformers.DeepseekV3Config(**{**SIZE, "num_key_value_heads": 4}, moe_intermediate_size=24,
                                       n_routed_experts=8, n_shared_experts=2, n_group=2, topk_group=1,
                                       first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8,
                                       qk_nope_head_dim=8, v_head_dim=8), "decoder",
         [[("layers.0.mlp.down_proj", 64, None)],
          [("layers.1.mlp.experts", 192, 8), ("layers.1.mlp.shared_experts.down_proj", 48, None)]]),
        (transformers.SwitchTransformersConfig(**SWITCH, num_sparse_encoder_layers=1), "encoder",
         [[("encoder.block.0.layer.1.mlp.wo", 64, None)], [("encoder.block.1.layer.1.mlp.experts", 256, 4)]]),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "to_dict") else "",
)  # fmt: skip
def test_experts_come_before_what_every_token_passes(config, stack, expected):
    _, layers = layers_of(config, stack, path="encoder" if config.is_encoder_decoder else "")
    assert [shape_of(layer) for layer in layers] == expected
    for layer, networks in zip(layers, expected, strict=True):
        assert layer.n_neurons == sum(n_neurons for _, n_neurons, _ in networks)
        assert layer.experts is (layer.feed_forwards[0] if networks[0][2] else None)


def test_experts_that_are_modules_are_listed_in_their_order():
    config = transformers.SwitchTransformersConfig(**{**SWITCH, "num_experts": 11}, num_sparse_encoder_layers=1)
    _, layers = layers_of(config, path="encoder")
    members = layers[1].feed_forwards[0].members
    assert [each.path for each in members] == [
        f"encoder.block.1.layer.1.mlp.experts.expert_{index}.wo" for index in range(11)
    ]
    assert {(each.n_neurons, each.width, each.n_experts) for each in members} == {(64, 64, None)}


def test_blocks_without_a_feed_forward_network_keep_their_number():
    config = transformers.NemotronHConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        layers_block_type=["moe", "attention", "mlp"], n_routed_experts=4, n_group=1, topk_group=1,
        moe_intermediate_size=24, moe_shared_expert_intermediate_size=40, **CONSTANTS,
    )  # fmt: skip
    _, layers = layers_of(config, "decoder")
    assert [(layer.layer, shape_of(layer)) for layer in layers] == [
        (0, [("layers.0.mixer.experts", 96, 4), ("layers.0.mixer.shared_experts.down_proj", 40, None)]),
        (2, [("layers.2.mixer.down_proj", 48, None)]),
    ]
    assert not any(network.is_gated for layer in layers for network in layer.feed_forwards)


def test_layers_that_share_weights_are_distinguished_by_their_calls():
    _, layers = layers_of(transformers.AlbertConfig(**{**SIZE, "num_hidden_layers": 3}, embedding_size=16))
    path = "encoder.albert_layer_groups.0.albert_layers.0.ffn_output"
    assert [layer.feed_forwards[0].down for layer in layers] == [Place(path, call, 3) for call in range(3)]


# The up projection of a square network leads to the hidden size as well: it must not be taken for the down projection.
@pytest.mark.parametrize(
    ("config", "stack", "path"),
    [
        (transformers.BertConfig(**{**SIZE, "intermediate_size": 32}), "encoder", "encoder.layer.{}.output.dense"),
        (transformers.LlamaConfig(**{**GROUPED, "intermediate_size": 32}), "decoder", "layers.{}.mlp.down_proj"),
        (transformers.GPT2Config(**GPT, n_inner=32), "decoder", "h.{}.mlp.c_proj"),
        (transformers.T5Config(**{**T5, "d_ff": 32}), "encoder", "encoder.block.{}.layer.1.DenseReluDense.wo"),
        (transformers.Phi3Config(**{**SIZE, "intermediate_size": 32}), "decoder", "layers.{}.mlp.down_proj"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "to_dict") else "",
)
def test_networks_as_wide_as_the_model_are_found_or_refused_by_name(config, stack, path):
    try:
        _, layers = layers_of(config, stack, path="encoder" if config.is_encoder_decoder else "")
    except IngestError:
        return  # a clear refusal is as good
    assert [layer.feed_forwards[0].path for layer in layers] == [path.format(0), path.format(1)]


def test_a_shared_expert_as_wide_as_the_model_is_found_or_refused_by_name():
    config = transformers.Qwen2MoeConfig(
        **GROUPED, moe_intermediate_size=24, shared_expert_intermediate_size=32, num_experts=4
    )
    try:
        _, layers = layers_of(config, "decoder")
    except IngestError:
        return  # a clear refusal is as good
    assert [layer.feed_forwards[1].path for layer in layers] == [
        f"layers.{index}.mlp.shared_expert.down_proj" for index in range(2)
    ]


def test_weights_that_are_not_accounted_for_are_refused_by_name():
    model = transformers.AutoModel.from_config(transformers.LlamaConfig(**GROUPED))
    model.layers[1].extra = torch.nn.Linear(32, 7)
    with pytest.raises(IngestError, match=r"tiny \(LlamaModel\): block 1 holds layers\.1\.extra\.weight \[7, 32\]"):
        find_layers(model, model.config, stack="decoder", name="tiny")


def test_a_feed_forward_network_of_another_width_is_refused_whatever_its_name():
    model = transformers.AutoModel.from_config(transformers.LlamaConfig(**GROUPED))
    model.layers[1].residual_mlp = torch.nn.Sequential(
        torch.nn.Linear(32, 56), torch.nn.SiLU(), torch.nn.Linear(56, 32)
    )
    with pytest.raises(IngestError, match=r"tiny \(LlamaModel\): block 1 holds layers\.1\.residual_mlp\.0\.weight"):
        find_layers(model, model.config, stack="decoder", name="tiny")


def test_a_number_of_blocks_that_the_configuration_does_not_imply_is_refused():
    model = transformers.AutoModel.from_config(transformers.LlamaConfig(**GROUPED))
    del model.layers[1]
    with pytest.raises(IngestError, match=r"tiny \(LlamaModel\): 1 decoder blocks found, 2 implied"):
        find_layers(model, model.config, stack="decoder", name="tiny")


def test_a_number_of_experts_that_the_configuration_does_not_imply_is_refused():
    model = transformers.AutoModel.from_config(transformers.MixtralConfig(**GROUPED, num_local_experts=4))
    model.config.num_local_experts = 8
    with pytest.raises(IngestError, match=r"layers\.0\.mlp\.experts holds 4 experts of width 64"):
        find_layers(model, model.config, stack="decoder", name="tiny")


def test_a_model_without_feed_forward_networks_is_refused():
    with pytest.raises(IngestError, match=r"tiny \(MambaModel\)"):
        layers_of(transformers.MambaConfig(vocab_size=50, hidden_size=32, state_size=4, num_hidden_layers=2), "decoder")


@pytest.mark.parametrize(
    ("config", "stack"),
    [
        (transformers.BertConfig(**SIZE), "encoder"),
        (transformers.SwitchTransformersConfig(**SWITCH, num_sparse_encoder_layers=2), "encoder"),
    ],
    ids=["dense", "experts"],
)
def test_the_gate_of_a_network_that_is_not_gated_is_refused(config, stack):
    _, layers = layers_of(config, stack, path="encoder" if config.is_encoder_decoder else "")
    network = layers[0].feed_forwards[0]
    check_site(network, "activation")
    check_site(network, "preactivation")
    with pytest.raises(IngestError, match=rf"{network.path} is not gated, so it has no site gate"):
        check_site(network, "gate")
