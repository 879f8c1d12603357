"""The table of architectures whose layers have no experts."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .zoo_specs import FeedForward, Parts, Stack, StackName

GATED = FeedForward("mlp", "gated", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj")
FUSED = FeedForward("mlp", "fused", ("mlp.gate_up_proj",), "mlp.down_proj")
UP_DOWN = FeedForward("mlp", "plain", ("mlp.up_proj",), "mlp.down_proj")
BERT = FeedForward("intermediate", "plain", ("intermediate.dense",), "output.dense")
BART = FeedForward("fc1", "plain", ("fc1",), "fc2", activation="activation_function")
CLIP = FeedForward("mlp", "plain", ("mlp.fc1",), "mlp.fc2")
GPT2 = FeedForward("mlp", "transposed", ("mlp.c_fc",), "mlp.c_proj", "n_inner", "activation_function")
FOUR = FeedForward("mlp", "plain", ("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h")
W123 = FeedForward("feed_forward", "gated", ("feed_forward.w1", "feed_forward.w3"), "feed_forward.w2")


def four_times(config: Any) -> int:
    """Return four times the hidden size, where the configuration has no field of its own for the width."""
    return 4 * config.hidden_size


def _lfm2(config: Any) -> int:
    """Return two thirds of the stated width, times a factor, rounded up."""
    factor, unit = config.block_ffn_dim_multiplier, config.block_multiple_of
    return -(-int(factor * int(2 * config.intermediate_size / 3)) // unit) * unit


def _xlstm(config: Any) -> int:
    """Return the hidden size times a factor, rounded up."""
    unit = config.ffn_round_up_to_multiple_of
    return math.ceil(config.hidden_size * config.ffn_proj_factor / unit) * unit


def part_of(template: FeedForward, block: str) -> FeedForward:
    """Return a network of the same names in a block that is called differently."""
    old = template.source
    return replace(
        template,
        source=block,
        names=tuple(name.replace(old, block, 1) for name in template.names),
        down=template.down.replace(old, block, 1),
    )


def stacks(name: StackName, path: str, *parts: FeedForward, depth: str = "num_hidden_layers") -> tuple[Stack, ...]:
    """Return the one stack of a model whose layers are all alike."""
    return (Stack(name, path, parts, depth),)


def _each(kinds: Iterable[str], made: tuple[Stack, ...]) -> dict[str, tuple[Stack, ...]]:
    return dict.fromkeys(kinds, made)


def _bart(template: FeedForward = BART) -> tuple[Stack, ...]:
    return tuple(
        Stack(name, f"{name}.layers.{{}}", (replace(template, width=f"{name}_ffn_dim"),), f"{name}_layers")
        for name in ("encoder", "decoder")
    )


def _seamless() -> tuple[Stack, ...]:
    """The text's encoder and decoder; those of speech are run for speech only."""
    network = FeedForward("ffn", "plain", ("ffn.fc1",), "ffn.fc2", activation="activation_function")
    return tuple(
        Stack(name, f"text_{name}.layers.{{}}", (replace(network, width=f"{name}_ffn_dim"),), f"{name}_layers")
        for name in ("encoder", "decoder")
    )


def _t5_stacks(template: FeedForward) -> tuple[Stack, ...]:
    """Return T5's stacks: in the decoder, cross-attention stands between self-attention and the network."""
    return (
        Stack("encoder", "encoder.block.{}.layer.1", (template,), "num_layers"),
        Stack("decoder", "decoder.block.{}.layer.2", (template,), "num_decoder_layers"),
    )


def _t5(gated: bool) -> FeedForward:
    at = "DenseReluDense"
    names = (f"{at}.wi_0", f"{at}.wi_1") if gated else (f"{at}.wi",)
    return FeedForward(at, "gated" if gated else "plain", names, f"{at}.wo", "d_ff", "dense_act_fn")


def _albert() -> tuple[Stack, ...]:
    """One layer, run as often as the model has layers."""
    path = "encoder.albert_layer_groups.0.albert_layers.0"
    shared = FeedForward("ffn", "plain", ("ffn",), "ffn_output")
    return (Stack("encoder", path, (shared,)),)


def _mobilebert(config: Any, index: int) -> Parts:
    """Several networks: the layer's own, and the small ones that run before it."""
    small = [part_of(BERT, f"ffn.{i}.intermediate") for i in range(config.num_feedforward_networks - 1)]
    return (BERT, *(replace(part, down=f"ffn.{i}.output.dense") for i, part in enumerate(small)))


def _zamba(block: str, template: FeedForward, config: Any, index: int) -> Parts:
    """Networks stand in hybrid layers only, and these share theirs."""
    return (part_of(template, f"{block}.feed_forward"),) if config.layers_block_type[index] == "hybrid" else ()


def _zamba2(config: Any, index: int) -> Parts:
    """Hybrid layers share a few transformers, and each has adapters of its own."""
    if config.layers_block_type[index] != "hybrid":
        return ()
    block = "shared_transformer.feed_forward"
    adapter = f"{block}.gate_up_proj_adapter_list.{config.hybrid_layer_ids.index(index)}"
    names = (f"{block}.gate_up_proj", f"{adapter}.0", f"{adapter}.1")
    return (FeedForward(block, "adapted", names, f"{block}.down_proj"),)


LLAMA_LIKE = (
    *("beam", "cohere", "cohere2", "cohere_compass_text", "cwm", "diffllama", "doge", "ernie4_5", "exaone4", "granite"),
    *("granite_swa", "helium", "hunyuan_v1_dense", "hyperclovax", "internlm3", "iquestcoder", "llama", "minicpm3"),
    *(
        "gemma",
        "ministral",
        "ministral3",
        "mistral",
        "molmo2_text",
        "olmo",
        "olmo2",
        "olmo3",
        "olmo_hybrid",
        "qwen2",
        "qwen3",
    ),
    *(
        "qwen3_5_text",
        "seed_oss",
        "smollm3",
        "stablelm",
        "youtu",
        "granite_docling_text",
        "hunyuan_vl_text",
        "qwen2_vl_text",
        "qwen2_5_vl_text",
        "qwen3_vl_text",
    ),
)
GEMMA_LIKE = ("muse_glimmer_text", "gemma2", "gemma3_text", "gemma4_text", "gemma4_unified_text", "vaultgemma")
BERT_LIKE = (
    *(
        "bert",
        "ibert",
        "bert-generation",
        "big_bird",
        "camembert",
        "convbert",
        "data2vec-text",
        "deberta",
        "deberta-v2",
    ),
    *("electra", "ernie", "fnet", "layoutlm", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "megatron-bert"),
    *("mpnet", "nystromformer", "rembert", "roberta", "roc_bert", "roformer", "tapas"),
    *("xlm-roberta", "xlm-roberta-xl", "xmod", "yoso"),
)
BART_LIKE = (
    *("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "fsmt", "led", "m2m_100", "marian", "mbart", "mvp"),
    *("pegasus", "plbart"),
)
FFNS = FeedForward("", "plain", ("lin1",), "lin2", four_times, "gelu")
XLNET = FeedForward("ff", "plain", ("ff.layer_1",), "ff.layer_2", "d_inner", "ff_activation")
GPTJ = FeedForward("mlp", "plain", ("mlp.fc_in",), "mlp.fc_out", "n_inner", "activation_function")
C_FC = FeedForward("mlp", "plain", ("mlp.c_fc",), "mlp.c_proj")
MODERN = FeedForward("mlp", "fused", ("mlp.Wi",), "mlp.Wo")
HIDDEN_ACT = "hidden_activation"

DENSE: dict[str, tuple[Stack, ...]] = {
    **_each(LLAMA_LIKE, stacks("decoder", "layers.{}", GATED)),
    **_each(GEMMA_LIKE, stacks("decoder", "layers.{}", replace(GATED, activation=HIDDEN_ACT))),
    **_each(("esmc", "eurobert", "gte", "nomic_bert", "ultrabert"), stacks("encoder", "layers.{}", GATED)),
    **_each(("bamba", "falcon_h1"), stacks("decoder", "layers.{}", part_of(GATED, "feed_forward"))),
    **_each(BERT_LIKE, stacks("encoder", "encoder.layer.{}", BERT)),
    **_each(BART_LIKE, _bart()),
    **_each(("seamless_m4t", "seamless_m4t_v2"), _seamless()),
    **_each(("biogpt",), stacks("decoder", "layers.{}", replace(BART, activation="hidden_act"))),
    **_each(("glm", "glm4", "phi3"), stacks("decoder", "layers.{}", FUSED)),
    **_each(("glm4v_text", "glm_image_text", "glm_ocr_text"), stacks("decoder", "layers.{}", FUSED)),
    **_each(("arcee", "jais2", "nemotron"), stacks("decoder", "layers.{}", UP_DOWN)),
    **_each(("gpt2", "gpt-sw3"), stacks("decoder", "h.{}", GPT2)),
    **_each(("codegen", "gptj"), stacks("decoder", "h.{}", GPTJ, depth="n_layer")),
    **_each(("flaubert", "xlm"), stacks("encoder", "ffns.{}", FFNS, depth="n_layers")),
    **_each(("nanochat", "phi"), stacks("decoder", "layers.{}", CLIP)),
    **_each(("mt5", "umt5", "t5:gated"), _t5_stacks(_t5(gated=True))),
    **_each(("longt5", "t5"), _t5_stacks(_t5(gated=False))),
    "albert": _albert(),
    "apertus": stacks("decoder", "layers.{}", replace(UP_DOWN, activation="xielu")),
    "bitnet": stacks("decoder", "layers.{}", replace(GATED, activation="normalised")),
    "bloom": stacks("decoder", "h.{}", replace(FOUR, width=four_times, activation="gelu_new"), depth="n_layer"),
    "clip_text_model": stacks("decoder", "encoder.layers.{}", CLIP),
    "cosmos3_edge_text": stacks("decoder", "layers.{}", CLIP),
    "ctrl": stacks("decoder", "h.{}", FeedForward("ffn", "plain", ("ffn.0",), "ffn.2", "dff", "relu"), depth="n_layer"),
    "distilbert": stacks(
        "encoder",
        "transformer.layer.{}",
        FeedForward("ffn", "plain", ("ffn.lin1",), "ffn.lin2", "hidden_dim", "activation"),
        depth="n_layers",
    ),
    "embedding_gemma2_text": stacks("encoder", "layers.{}", replace(GATED, activation=HIDDEN_ACT)),
    "esm": stacks("encoder", "encoder.layer.{}", replace(BERT, activation="gelu")),
    "falcon": stacks("decoder", "h.{}", replace(FOUR, width="ffn_hidden_size", activation="activation")),
    "gemma3n_text": (
        Stack(
            "decoder",
            "layers.{}",
            lambda config, index: (replace(GATED, width=lambda c: c.intermediate_size[index], activation="sparse"),),
        ),
    ),
    "gpt_bigcode": stacks("decoder", "h.{}", replace(C_FC, width="n_inner", activation="activation_function")),
    "gpt_neo": stacks("decoder", "h.{}", replace(C_FC, activation="activation_function"), depth="num_layers"),
    "gpt_neox": stacks("decoder", "layers.{}", FOUR),
    "gpt_neox_japanese": stacks("decoder", "layers.{}", replace(FOUR, width=four_times)),
    "jina_embeddings_v3": stacks("encoder", "layers.{}", CLIP),
    "lfm2": stacks("decoder", "layers.{}", replace(W123, width=_lfm2, activation="silu")),
    "lfm3": stacks("decoder", "layers.{}", replace(W123, activation="silu")),
    "mobilebert": (Stack("encoder", "encoder.layer.{}", _mobilebert),),
    "modernbert": stacks("encoder", "layers.{}", replace(MODERN, activation=HIDDEN_ACT)),
    "modernbert-decoder": stacks("decoder", "layers.{}", replace(MODERN, activation=HIDDEN_ACT)),
    "mpt": stacks(
        "decoder",
        "blocks.{}",
        FeedForward("ffn", "plain", ("ffn.up_proj",), "ffn.down_proj", four_times, "gelu"),
        depth="n_layers",
    ),
    "openai-gpt": stacks("decoder", "h.{}", replace(GPT2, width=four_times, activation="gelu_new"), depth="n_layer"),
    "opt": stacks("decoder", "decoder.layers.{}", replace(BART, width="ffn_dim")),
    "persimmon": stacks("decoder", "layers.{}", FOUR),
    "recurrent_gemma": stacks(
        "decoder",
        "layers.{}",
        replace(part_of(GATED, "mlp_block"), width=lambda config: config.intermediate_size // 2, activation=HIDDEN_ACT),
    ),
    "reformer": stacks(
        "encoder",
        "encoder.layers.{}",
        FeedForward(
            "feed_forward.dense",
            "plain",
            ("feed_forward.dense.dense",),
            "feed_forward.output.dense",
            "feed_forward_size",
        ),
    ),
    # a norm stands inside the block, in front of its projection
    "roberta-prelayernorm": stacks("encoder", "encoder.layer.{}", replace(BERT, source="intermediate.dense")),
    "rwkv": stacks(
        "decoder",
        "blocks.{}",
        FeedForward(
            "feed_forward",
            "shifted",
            ("feed_forward.key", "feed_forward.time_mix_key"),
            "feed_forward.value",
            activation="relu2",
        ),
    ),
    "squeezebert": stacks(
        "encoder",
        "encoder.layers.{}",
        FeedForward("intermediate", "grouped", ("intermediate.conv1d",), "output.conv1d"),
    ),
    "starcoder2": stacks("decoder", "layers.{}", C_FC),
    "t5gemma": tuple(
        Stack(name, f"{name}.layers.{{}}", (replace(GATED, activation=HIDDEN_ACT),), config=name)
        for name in ("encoder", "decoder")
    ),
    "t5gemma2": (
        Stack(
            "encoder",
            "encoder.text_model.layers.{}",
            (replace(GATED, activation=HIDDEN_ACT),),
            config="encoder.text_config",
        ),
        Stack("decoder", "decoder.layers.{}", (replace(GATED, activation=HIDDEN_ACT),), config="decoder"),
    ),
    "tipsv2_text_model": stacks("encoder", "encoder.layers.{}", CLIP),
    "xglm": stacks("decoder", "layers.{}", replace(BART, width="ffn_dim"), depth="num_layers"),
    "xlnet": stacks("encoder", "layer.{}", XLNET, depth="n_layer"),
    "xlstm": stacks(
        "decoder",
        "blocks.{}",
        FeedForward("ffn", "gated", ("ffn.proj_up_gate", "ffn.proj_up"), "ffn.proj_down", _xlstm, "silu"),
    ),
    "zamba": (Stack("decoder", "layers.{}", lambda c, i: _zamba("shared_transf", GATED, c, i)),),
    "zamba2": (Stack("decoder", "layers.{}", _zamba2),),
}
