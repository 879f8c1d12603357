"""The table of architectures with experts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .zoo_dense import FUSED, GATED, UP_DOWN, W123, part_of
from .zoo_specs import FeedForward, Parts, Stack, Width

SCALED_INPUTS: frozenset[str] = frozenset({"llama4_text"})
"""Architectures whose experts read the token multiplied by the routing weight."""

MOE, WIDE = "moe_intermediate_size", "intermediate_size"
LOCAL = "num_local_experts"
OSS, CLAMPED = "swiglu oss", "swiglu clamped"
CORRECTION = "gate.e_score_correction_bias"


def routed(
    block: str = "mlp", *, gate: str = "gate", router: str = "top", bias: str = CORRECTION, width: Width = MOE,
    experts: Width = "num_experts", style: str = "experts", names: tuple[str, ...] = ("experts.gate_up_proj",),
    down: str = "experts.down_proj", activation: str = "hidden_act", top_k: Width = "num_experts_per_tok",
) -> FeedForward:  # fmt: skip
    """Return routed experts of a block, with names within the block."""
    inside = tuple(f"{block}.{name}" for name in names)
    return FeedForward(
        block, style, inside, f"{block}.{down}", width, activation, experts, router, f"{block}.{gate}",
        f"{block}.{bias}", top_k,
    )  # fmt: skip


def shared(
    width: Width, block: str = "mlp", name: str = "shared_experts", template: FeedForward = GATED
) -> FeedForward:
    """Return the experts of a block that every token is sent to: one network, however many they are."""
    return replace(part_of(template, f"{block}.{name}"), source=block, width=width)


def times(count: str, width: str = MOE) -> Callable[[Any], int]:
    """Return the formula of several shared experts made one."""
    return lambda config: getattr(config, count) * getattr(config, width)


def mixed(
    is_dense: Callable[[Any, int], bool],
    sparse: Parts,
    dense: FeedForward = GATED,
    path: str = "layers.{}",
) -> tuple[Stack, ...]:
    """Return a stack of which some layers have one network and the others experts."""
    return (Stack("decoder", path, lambda config, index: (dense,) if is_dense(config, index) else sparse),)


def always(*parts: FeedForward, path: str = "layers.{}", depth: str = "num_hidden_layers") -> tuple[Stack, ...]:
    """Return a stack with experts in every layer."""
    return (Stack("decoder", path, parts, depth),)


def listed(config: Any, index: int) -> bool:
    """Tell whether the configuration lists the layer as dense."""
    return config.mlp_layer_types[index] == "dense"


def first(field: str) -> Callable[[Any, int], bool]:
    """Tell whether the layer is one of the first, as many as a field says."""
    return lambda config, index: index < getattr(config, field)


def first_or_listed(config: Any, index: int) -> bool:
    """Tell whether the layer is dense by whichever way the configuration says it."""
    if getattr(config, "mlp_layer_types", None) is not None:
        return listed(config, index)
    return index < config.first_k_dense_replace


def _qwen(config: Any, index: int) -> bool:
    step = getattr(config, "decoder_sparse_step", 1)
    return index in config.mlp_only_layers or (index + 1) % step != 0


def _ernie(config: Any, index: int) -> bool:
    inside = config.moe_layer_start_index <= index <= config.moe_layer_end_index
    return not inside or (index + 1) % config.moe_layer_interval != 0


def _deepseek_v4(config: Any, index: int) -> Parts:
    """The first layers look their experts up in a table."""
    experts = routed(router="root", width=WIDE, experts=LOCAL, activation=CLAMPED)
    if config.mlp_layer_types[index] == "hash_moe":
        experts = routed(
            router="hashed", bias="gate.tid2eid", width=WIDE, experts=LOCAL, activation=CLAMPED
        )  # fmt: skip
    return experts, replace(shared(WIDE), activation=CLAMPED)


def _nemotron(config: Any, index: int) -> Parts:
    """Each layer is one thing only: a network, experts, attention or a state-space model."""
    plain = replace(UP_DOWN, activation="mlp_hidden_act")
    match config.layers_block_type[index]:
        case "mlp":
            return (part_of(plain, "mixer"),)
        case "moe":
            return (
                routed(
                    "mixer", router="grouped", experts="n_routed_experts", style="experts plain",
                    names=("experts.up_proj",), activation="mlp_hidden_act",
                ),
                shared("moe_shared_expert_intermediate_size", "mixer", template=plain),
            )  # fmt: skip
        case _:
            return ()


def _switch() -> tuple[Stack, ...]:
    dense = FeedForward("mlp", "plain", ("mlp.wi",), "mlp.wo", "d_ff", "dense_act_fn")
    sparse = routed(
        gate="router.classifier", router="first come", width="d_ff", style="expert modules",
        names=("experts.expert_{expert}.wi",), down="experts.expert_{expert}.wo", activation="dense_act_fn",
    )  # fmt: skip

    def parts(field: str) -> Callable[[Any, int], Parts]:
        def made(config: Any, index: int) -> Parts:
            step = getattr(config, field)
            return (sparse,) if step == 1 or (step > 0 and index % step == 1) else (dense,)

        return made

    return (
        Stack("encoder", "encoder.block.{}.layer.1", parts("encoder_sparse_step"), "num_layers"),
        Stack("decoder", "decoder.block.{}.layer.2", parts("decoder_sparse_step"), "num_decoder_layers"),
    )


def _nllb() -> tuple[Stack, ...]:
    def stack(name: Any) -> Stack:
        width = f"{name}_ffn_dim"
        dense = FeedForward("ffn", "plain", ("ffn.fc1",), "ffn.fc2", width, "activation_function")
        sparse = routed(
            "ffn", gate="router.classifier", router="nllb", width=width, style="expert modules",
            names=("experts.expert_{expert}.fc1",), down="experts.expert_{expert}.fc2",
            activation="activation_function",
        )  # fmt: skip

        def parts(config: Any, index: int) -> Parts:
            step = getattr(config, f"{name}_sparse_step")
            return (sparse,) if step > 0 and (index + 1) % step == 0 else (dense,)

        return Stack(name, f"{name}.layers.{{}}", parts, f"{name}_layers")

    return stack("encoder"), stack("decoder")


def _granite(*more: FeedForward) -> tuple[Stack, ...]:
    experts = routed("block_sparse_moe", gate="router", width="intermediate_size", experts="num_local_experts")
    return always(experts, *more)


GRANITE_SHARED = FeedForward(
    "shared_mlp", "fused", ("shared_mlp.input_linear",), "shared_mlp.output_linear", "shared_intermediate_size"
)
SHARED_EXPERT = shared("shared_expert_intermediate_size", name="shared_expert")
SHARED_EXPERTS = shared("shared_expert_intermediate_size")
N_SHARED = shared(times("n_shared_experts"))
NUM_SHARED = shared(times("num_shared_experts"))
DEEPSEEK = routed(router="grouped", experts=LOCAL)


EXPERTS: dict[str, tuple[Stack, ...]] = {
    **dict.fromkeys(
        ("axk1", "axk2", "bailing_hybrid", "deepseek_v3", "deepseek_v32", "dots1", "glm4_moe", "glm4_moe_lite",
         "glm_moe_dsa", "kimi_linear", "glm4v_moe_text"),
        mixed(first_or_listed, (DEEPSEEK, N_SHARED)),
    ),
    "afmoe": mixed(
        first("num_dense_layers"), (routed(gate="router.gate", router="sigmoid", bias="expert_bias"), NUM_SHARED)
    ),
    "aria_text": always(
        routed(
            gate="router", style="experts transposed", width=WIDE, experts="moe_num_experts", top_k="moe_topk",
            activation="silu",
        ),
        shared(times("moe_num_shared_experts", WIDE)),
    ),
    "cohere2_moe": mixed(
        listed,
        (routed(width=WIDE), shared(times("num_shared_experts", WIDE))),
        replace(GATED, width="prefix_dense_intermediate_size"),
    ),
    "dbrx": always(
        routed(
            "ffn", gate="router.layer", style="experts pair", names=("experts.mlp.w1", "experts.mlp.v1"),
            down="experts.mlp.w2", width=lambda config: config.ffn_config.ffn_hidden_size, activation="silu",
            experts=lambda config: config.ffn_config.moe_num_experts, top_k=lambda config: config.ffn_config.moe_top_k,
        ),
        path="blocks.{}", depth="n_layers",
    ),
    "deepseek_v2": mixed(
        first("first_k_dense_replace"), (routed(router="grouped best", experts="n_routed_experts"), N_SHARED)
    ),
    "deepseek_v4": (Stack("decoder", "layers.{}", _deepseek_v4),),
    "dots3_note_text": mixed(
        listed,
        (DEEPSEEK, shared(times("n_shared_experts", "shared_experts_intermediate_size"))),
    ),
    "ernie4_5_moe": mixed(
        _ernie,
        (
            routed(router="softmax", bias="gate.moe_statics.e_score_correction_bias"),
            shared(times("moe_num_shared_experts")),
        ),
    ),
    "exaone_moe": mixed(listed, (routed(router="grouped"), NUM_SHARED)),
    "flint": mixed(lambda config, index: index in config.mlp_only_layers, (routed(), SHARED_EXPERT)),
    "gemma4_text:moe": always(
        FeedForward(
            "experts", "experts", ("experts.gate_up_proj",), "experts.down_proj", MOE, "hidden_activation",
            "num_experts", "normed", "router.proj", "router.scale", "top_k_experts", "router",
        ),
        replace(GATED, activation="hidden_activation"),
    ),
    "gpt_oss": always(
        routed(gate="router", style="experts interleaved", width=WIDE, experts=LOCAL, activation=OSS)
    ),
    "openai_privacy_filter": (
        Stack(
            "encoder",
            "layers.{}",
            (routed(gate="router", style="experts transposed", width=WIDE, experts=LOCAL, activation=OSS),),
        ),
    ),
    "granitemoe": _granite(),
    **dict.fromkeys(("granitemoe_swa", "granitemoehybrid", "granitemoeshared"), _granite(GRANITE_SHARED)),
    "hunyuan_v1_moe": always(
        routed(gate="gate.wg", width=WIDE, top_k="moe_topk"), shared(WIDE, name="shared_mlp")
    ),
    "hy_v3": mixed(listed, (routed(router="sigmoid", bias="e_score_correction_bias"), NUM_SHARED)),
    "hy_v4": mixed(listed, (replace(DEEPSEEK, activation=CLAMPED), N_SHARED)),
    "inkling2_text": always(
        routed(router="sigmoid", experts="n_routed_experts", activation="swiglu softcapped")
    ),
    "inkling_text": mixed(
        listed,
        (
            routed(router="sigmoid beside shared", experts="n_routed_experts"),
            FeedForward(
                "mlp", "experts pair", ("mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj"),
                "mlp.shared_experts.down_proj", times("n_shared_experts"), "weighted",
            ),
        ),
    ),
    "jamba": mixed(
        lambda config, index: index % config.expert_layer_period != config.expert_layer_offset,
        (routed("feed_forward", gate="router", width=WIDE),),
        part_of(GATED, "feed_forward"),
    ),
    "jetmoe": always(
        routed(
            gate="router.layer", width=WIDE, names=("input_linear",), down="output_linear",
            experts=LOCAL, activation="activation_function",
        )
    ),
    "kolibri1": always(routed(router="logits"), SHARED_EXPERTS),
    "laguna": mixed(listed, (routed(router="sigmoid"), SHARED_EXPERTS)),
    "lfm2_moe": mixed(
        first("num_dense_layers"),
        (routed("feed_forward", router="sigmoid", bias="expert_bias", activation="silu"),),
        replace(W123, activation="silu"),
    ),
    "llama4_text": mixed(
        lambda config, index: index not in config.moe_layers,
        (
            routed("feed_forward", gate="router", style="experts transposed", width=WIDE, experts=LOCAL),
            shared(WIDE, "feed_forward", "shared_expert"),
        ),
        replace(part_of(GATED, "feed_forward"), width="intermediate_size_mlp"),
    ),
    "longcat_flash": always(
        routed(
            gate="router.classifier", router="past some", bias="router.e_score_correction_bias",
            width="expert_ffn_hidden_size", experts="n_routed_experts", top_k="moe_topk",
        ),
        *(replace(part_of(GATED, f"mlps.{index}"), width="ffn_hidden_size") for index in (0, 1)),
        depth="num_layers",
    ),
    "mellum": mixed(listed, (routed(),)),
    "mimo_v2_flash": mixed(listed, (DEEPSEEK,)),
    **dict.fromkeys(("minimax", "mixtral"), always(routed(width=WIDE, experts=LOCAL))),
    "minimax_m2": always(routed(router="sigmoid", bias="e_score_correction_bias", width=WIDE, experts=LOCAL)),
    "minimax_m3_vl_text": mixed(
        listed,
        (
            routed(router="sigmoid", width=WIDE, experts=LOCAL, activation=OSS),
            replace(shared("shared_intermediate_size", template=FUSED), activation=OSS),
        ),
        replace(FUSED, width="dense_intermediate_size", activation=OSS),
    ),
    **dict.fromkeys(
        ("mistral4", "mistral_large4_text"),
        mixed(first_or_listed, (routed(router="grouped softmax", experts="n_routed_experts"), N_SHARED)),
    ),
    "nemotron_h": (Stack("decoder", "layers.{}", _nemotron),),
    "nllb-moe": _nllb(),
    **dict.fromkeys(("flex_olmo", "olmoe"), always(routed(width=WIDE))),
    "phimoe": always(routed(gate="router", width=WIDE, experts=LOCAL)),
    **dict.fromkeys(("qwen2_moe", "qwen3_next"), mixed(_qwen, (routed(), SHARED_EXPERT))),
    **dict.fromkeys(("qwen3_5_moe_text", "qwen4_exp_text"), always(routed(), SHARED_EXPERT)),
    "qwen3_vl_moe_text": mixed(_qwen, (routed(),)),
    "qwen3_moe": mixed(_qwen, (routed(),)),
    "solar_open": always(DEEPSEEK, N_SHARED),
    "switch_transformers": _switch(),
    "zaya": always(routed(router="module")),
}  # fmt: skip
