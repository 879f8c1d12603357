"""A zoo of tiny random models: one for each text architecture of transformers whose neurons can be told apart.

Sizes are alike everywhere (three layers, 32 wide, 40 neurons), so that a table of neurons can be written from the
configuration alone. A kind is a model type, or `type:variant` where one type has two kinds of feed-forward layers.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from .zoo_overrides import OVERRIDES, UNSET

HIDDEN, WIDTH, EXPERT_WIDTH, LAYERS, VOCABULARY = 32, 40, 24, 3, 99
LENGTHS, DECODER_LENGTHS = (12, 7), (8, 5)
"""Tokens of the two texts; the shorter is padded on the right."""

GENERIC: dict[str, Any] = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "dim", "n_embd", "emb_dim", "embed_dim", "embedding_size", "model_dim", "n_embed"),
        HIDDEN,
    ),
    "word_embed_proj_dim": HIDDEN,
    **dict.fromkeys(
        ("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "n_inner"), WIDTH
    ),
    **dict.fromkeys(("d_inner", "ffn_hidden_size", "inner_dim", "dff", "dim_ff", "intermediate_size_mlp"), WIDTH),
    "moe_intermediate_size": EXPERT_WIDTH,
    "expert_ffn_hidden_size": EXPERT_WIDTH,
    "shared_intermediate_size": 28,
    "shared_expert_intermediate_size": 28,
    "moe_shared_expert_intermediate_size": 28,
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"), LAYERS
    ),
    **dict.fromkeys(("num_encoder_layers", "num_decoder_layers", "num_decoder_blocks", "n_head_layers"), LAYERS),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "attention_heads"), 4
    ),
    **dict.fromkeys(("decoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "d_head", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    "vocab_size": VOCABULARY,
    **dict.fromkeys(("n_positions", "max_position_embeddings", "max_seq_len", "n_ctx"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "moe_num_active_experts", "top_k_experts"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "topk_group"), 1),
    **dict.fromkeys(("first_k_dense_replace", "moe_layer_start_index", "n_group"), 1),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "mamba_chunk_size"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 4),
    **dict.fromkeys(("mamba_n_groups", "n_groups"), 1),
    "mamba_expand": 2,
    "mamba_d_ssm": 64,
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "index_n_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    "index_head_dim": 16,
    "index_topk": 16,
    "use_cache": False,
}

KINDS: tuple[str, ...] = (
    *("afmoe", "albert", "apertus", "arcee", "aria_text", "axk1", "axk2", "bailing_hybrid", "bamba", "bart", "beam"),
    *("bert", "bert-generation", "big_bird", "bigbird_pegasus", "biogpt", "bitnet", "blenderbot", "blenderbot-small"),
    *("bloom", "camembert", "clip_text_model", "codegen", "cohere", "cohere2", "cohere2_moe", "cohere_compass_text"),
    *("convbert", "ctrl", "cwm", "data2vec-text", "dbrx", "deberta", "deberta-v2", "deepseek_v2", "deepseek_v3"),
    *("deepseek_v32", "deepseek_v4", "diffllama", "distilbert", "doge", "dots1", "dots3_note_text", "electra", "ernie"),
    *("ernie4_5", "ernie4_5_moe", "esm", "esmc", "eurobert", "exaone4", "exaone_moe", "falcon", "falcon_h1"),
    *("flaubert", "flex_olmo", "flint", "fnet", "fsmt", "gemma", "gemma2", "gemma3_text", "gemma3n_text"),
    *("gemma4_text", "gemma4_text:moe", "gemma4_unified_text", "glm", "glm4", "glm4_moe", "glm4_moe_lite"),
    *("glm_moe_dsa", "gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_neox_japanese", "gpt_oss", "gptj"),
    *("granite", "granite_swa", "granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared", "gte"),
    *("helium", "hunyuan_v1_dense", "hunyuan_v1_moe", "hy_v3", "hy_v4", "hyperclovax", "ibert", "inkling2_text"),
    *("inkling_text", "internlm3", "iquestcoder", "jais2", "jamba", "jetmoe", "jina_embeddings_v3", "kimi_linear"),
    *("kolibri1", "laguna", "layoutlm", "layoutlmv3", "led", "lfm2", "lfm2_moe", "lfm3", "lilt", "llama"),
    *("llama4_text", "longcat_flash", "longformer", "longt5", "luke", "m2m_100", "marian", "markuplm", "mbart"),
    *("megatron-bert", "mellum", "mimo_v2_flash", "minicpm3", "minimax", "minimax_m2", "minimax_m3_vl_text"),
    *("ministral", "ministral3", "mistral", "mistral4", "mixtral", "mobilebert", "modernbert", "modernbert-decoder"),
    *("molmo2_text", "mpnet", "mpt", "mt5", "mvp", "nanochat", "nemotron", "nemotron_h", "nllb-moe"),
    *(
        "nomic_bert",
        "nystromformer",
        "olmo",
        "olmo2",
        "olmo3",
        "olmo_hybrid",
        "olmoe",
        "openai-gpt",
        "openai_privacy_filter",
        "opt",
        "pegasus",
    ),
    *("persimmon", "phi", "phi3", "phimoe", "plbart", "qwen2", "qwen2_moe", "qwen3", "qwen3_5_moe_text"),
    *("qwen3_5_text", "qwen3_moe", "qwen3_next", "qwen4_exp_text", "recurrent_gemma", "reformer", "rembert"),
    *("roberta", "roberta-prelayernorm", "roc_bert", "roformer", "rwkv", "seamless_m4t", "seamless_m4t_v2"),
    *("seed_oss", "smollm3", "solar_open", "squeezebert", "stablelm", "starcoder2", "switch_transformers", "t5"),
    *("t5:gated", "t5gemma", "t5gemma2", "tapas", "tipsv2_text_model", "ultrabert", "umt5", "vaultgemma", "xglm"),
    *("xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xlstm", "xmod", "yoso", "youtu", "zamba", "zamba2", "zaya"),
    *("cosmos3_edge_text", "embedding_gemma2_text", "glm4v_moe_text", "glm4v_text", "glm_image_text", "glm_ocr_text"),
    *(
        "granite_docling_text",
        "hunyuan_vl_text",
        "mistral_large4_text",
        "muse_glimmer_text",
        "qwen2_5_vl_text",
        "qwen2_vl_text",
    ),
    *("qwen3_vl_moe_text", "qwen3_vl_text"),
)


@contextlib.contextmanager
def widths(network: int, expert: int) -> Iterator[None]:
    """Make models with other feed-forward widths inside."""
    before = dict(GENERIC)
    changed = {WIDTH: network, EXPERT_WIDTH: expert}
    GENERIC.update({name: changed[size] for name, size in before.items() if size in changed})
    yield
    GENERIC.update(before)


def tiny(kind: str) -> tuple[Any, Any]:
    """Return the configuration of a tiny model and the model itself: random, float32, not training."""
    config = _config(kind)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config, dtype=torch.float32).eval()
        _draw(model)
    return model.config, model


def inputs(kind: str, config: Any) -> dict[str, Tensor]:
    """Return what the model is called with: two texts, the second one shorter and padded on the right."""
    generator = torch.Generator().manual_seed(1)
    padding = getattr(config, "pad_token_id", None) or 0
    made = {"input_ids": _texts(generator, LENGTHS, padding), "attention_mask": _mask(LENGTHS)}
    if kind in ("rwkv", "xlstm"):
        del made["attention_mask"]
    if getattr(config, "is_encoder_decoder", False):
        made["decoder_input_ids"] = _texts(generator, DECODER_LENGTHS, padding)
    return made


def _texts(generator: torch.Generator, lengths: tuple[int, ...], padding: int) -> Tensor:
    tokens = torch.randint(3, 90, (len(lengths), max(lengths)), generator=generator)
    return tokens.masked_fill(_mask(lengths) == 0, padding)


def _mask(lengths: tuple[int, ...]) -> Tensor:
    return torch.tensor([[int(position < length) for position in range(max(lengths))] for length in lengths])


def _config(kind: str) -> Any:
    """Return the generic sizes that this model type has a name for, changed where it asks for something else."""
    model_type = kind.partition(":")[0]
    made = CONFIG_MAPPING[model_type]
    names = {field.name for field in dataclasses.fields(made)}
    aliases = {alias: name for alias, name in made.attribute_map.items() if alias not in names}
    chosen = {name: value for name, value in GENERIC.items() if name in names}
    chosen |= {aliases[name]: value for name, value in GENERIC.items() if aliases.get(name) in names - set(chosen)}
    changed = {**OVERRIDES.get(model_type, {}), **OVERRIDES.get(kind, {})}
    return made(**{name: value for name, value in {**chosen, **changed}.items() if value is not UNSET})


@torch.no_grad()
def _draw(model: torch.nn.Module) -> None:
    """Draw weights wide enough that neurons differ from each other and experts are chosen by the token."""
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2 and "A_log" not in name and "time_mix" not in name:
            parameter.normal_(std=0.2)
        elif name.endswith("bias"):
            parameter.normal_(std=0.1)
    for name, buffer in model.named_buffers():
        if name.endswith(("correction_bias", "expert_bias")):
            buffer.normal_(std=0.1)
        elif name.endswith("tid2eid"):
            buffer.copy_(torch.rand(len(buffer), 4).argsort(1)[:, : buffer.shape[1]])
