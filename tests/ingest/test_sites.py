"""Where the neurons of an architecture are."""

import pytest
import torch
import transformers

from neuronlake.errors import IngestError
from neuronlake.ingest import models
from neuronlake.ingest.sites import Site, find_sites, weight_norms

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


def sites_of(config) -> tuple[torch.nn.Module, tuple[Site, ...]]:
    model = transformers.AutoModel.from_config(config).eval()
    body, _ = models._body(model, config, "tiny")
    stack = "decoder" if models._is_causal(body.eval(), "cpu", "tiny") else "encoder"
    return body, find_sites(body, config.get_text_config(), stack=stack, name="tiny")


@pytest.mark.parametrize(
    ("kind", "stack", "path", "inputs", "activation_function"),
    [
        ("bert", "encoder", "encoder.layer.1.output.dense", ["encoder.layer.1.intermediate.dense"], "gelu"),
        ("roberta", "encoder", "encoder.layer.1.output.dense", ["encoder.layer.1.intermediate.dense"], "gelu"),
        ("llama", "decoder", "layers.1.mlp.down_proj", ["layers.1.mlp.gate_proj", "layers.1.mlp.up_proj"], "silu"),
        ("gpt2", "decoder", "h.1.mlp.c_proj", ["h.1.mlp.c_fc"], "gelu_new"),
        ("t5", "encoder", "block.1.layer.1.DenseReluDense.wo", ["block.1.layer.1.DenseReluDense.wi"], "relu"),
        (
            "t5-gated",
            "encoder",
            "block.1.layer.1.DenseReluDense.wo",
            ["block.1.layer.1.DenseReluDense.wi_0", "block.1.layer.1.DenseReluDense.wi_1"],
            "gelu_new",
        ),
    ],
)
def test_every_layer_of_a_tiny_model_is_found(tiny_model, kind, stack, path, inputs, activation_function):
    model = models.load(str(tiny_model(kind)))
    sites = find_sites(model.module, model.config, stack=model.stack, name=model.name)
    assert [site.layer for site in sites] == [0, 1]
    assert sites[1] == Site(stack, 1, path, tuple(inputs), 64, activation_function, len(inputs) == 2)


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


@pytest.mark.parametrize("kind", WEIGHTS)
def test_norms_are_those_of_the_weights(tiny_model, kind):
    model = models.load(str(tiny_model(kind)))
    site = find_sites(model.module, model.config, stack=model.stack, name=model.name)[0]
    output, inputs = WEIGHTS[kind](model.module)
    input_norms, output_norms = weight_norms(model.module, site)
    assert input_norms.dtype == output_norms.dtype == torch.float32
    torch.testing.assert_close(output_norms, output.detach().norm(dim=1))
    torch.testing.assert_close(input_norms, torch.cat([each.detach() for each in inputs], dim=1).norm(dim=1))


def test_norms_of_a_fused_gate_take_gate_and_up_together():
    body, sites = sites_of(transformers.Phi3Config(**SIZE))
    assert (sites[0].is_gated, sites[0].input_paths) == (True, ("layers.0.mlp.gate_up_proj",))
    gate, up = body.layers[0].mlp.gate_up_proj.weight.detach().split(64)
    torch.testing.assert_close(weight_norms(body, sites[0])[0], torch.cat([gate, up], dim=1).norm(dim=1))


@pytest.mark.parametrize(
    ("config", "stack", "path", "is_gated"),
    [
        (
            transformers.DistilBertConfig(vocab_size=50, dim=32, hidden_dim=64, n_layers=2, n_heads=4),
            "encoder",
            "transformer.layer.{}.ffn.lin2",
            False,
        ),
        (transformers.ModernBertConfig(**SIZE, cls_token_id=1, sep_token_id=2), "encoder", "layers.{}.mlp.Wo", True),
        (transformers.GPTNeoXConfig(**SIZE), "decoder", "layers.{}.mlp.dense_4h_to_h", False),
        (transformers.Gemma2Config(**GROUPED, head_dim=8), "decoder", "layers.{}.mlp.down_proj", True),
        # Attention as wide as the feed-forward network: told apart by where it is.
        (transformers.Qwen3Config(**GROUPED, head_dim=16), "decoder", "layers.{}.mlp.down_proj", True),
        (transformers.PhiConfig(**SIZE), "decoder", "layers.{}.mlp.fc2", False),
        (
            transformers.OPTConfig(
                vocab_size=50, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
                word_embed_proj_dim=32,
            ),
            "decoder",
            "decoder.layers.{}.fc2",
            False,
        ),
        (
            transformers.BartConfig(
                vocab_size=50, d_model=32, encoder_layers=2, decoder_layers=3, encoder_ffn_dim=64,
                decoder_ffn_dim=48, encoder_attention_heads=4, decoder_attention_heads=4,
            ),
            "encoder",
            "layers.{}.fc2",
            False,
        ),
        (
            transformers.T5Config(
                vocab_size=50, d_model=32, d_ff=64, d_kv=8, num_layers=2, num_decoder_layers=3, num_heads=4
            ),
            "encoder",
            "block.{}.layer.1.DenseReluDense.wo",
            False,
        ),
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
    _, sites = sites_of(config)
    assert [site.module_path for site in sites] == [path.format(0), path.format(1)]
    assert {(site.n_neurons, site.is_gated) for site in sites} == {(64, is_gated)}
    assert {site.stack for site in sites} == {stack}


@pytest.mark.parametrize(
    "config",
    [
        transformers.OlmoeConfig(**GROUPED, num_experts=4, num_experts_per_tok=2),
        transformers.MixtralConfig(**GROUPED, num_local_experts=4),
        transformers.SwitchTransformersConfig(
            vocab_size=50, d_model=32, d_ff=64, d_kv=8, num_layers=2, num_heads=4, num_experts=4
        ),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_mixture_of_experts_is_refused_by_name(config):
    with pytest.raises(IngestError, match=r"^model tiny \(\w+\) is a mixture of 4 experts; only dense"):
        sites_of(config)


def test_layers_as_wide_as_the_model_cannot_be_told_apart_and_are_named():
    with pytest.raises(IngestError, match=r"tiny \(BertModel\): 2 layers of block 0 .*encoder\.layer\.0\.intermediate"):
        sites_of(transformers.BertConfig(**{**SIZE, "intermediate_size": 32}))


def test_shared_layers_are_refused():
    with pytest.raises(IngestError, match=r"tiny \(AlbertModel\): no list of 2 blocks found"):
        sites_of(transformers.AlbertConfig(**SIZE, embedding_size=16))


def test_a_model_without_feed_forward_networks_is_refused():
    with pytest.raises(IngestError, match=r"tiny \(MambaModel\)"):
        sites_of(transformers.MambaConfig(vocab_size=50, hidden_size=32, state_size=4, num_hidden_layers=2))
