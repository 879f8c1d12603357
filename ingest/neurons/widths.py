"""What a configuration implies of a model's feed-forward layers: how many, how wide, how many experts.

Configurations name the same thing in many ways. What a model holds is compared with these numbers.
"""

from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedConfig

_WIDTHS = (
    *("intermediate_size", "dense_intermediate_size", "prefix_dense_intermediate_size", "intermediate_size_mlp"),
    *("moe_intermediate_size", "shared_intermediate_size", "shared_expert_intermediate_size"),
    *("shared_experts_intermediate_size", "moe_shared_expert_intermediate_size", "expert_ffn_hidden_size"),
    *("d_ff", "dim_ff", "dff", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_hidden_size"),
    *("n_inner", "d_inner", "inner_dim"),
)
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
_MULTIPLES = ("expansion_ratio", "intermediate_multiple_size")
_ENCODER_LAYERS = ("encoder_layers", "num_encoder_layers", "num_hidden_layers", "num_layers")
_DECODER_LAYERS = ("decoder_layers", "num_decoder_layers", "num_hidden_layers", "num_layers")


def widths(config: PreTrainedConfig) -> set[int]:
    """Return the widths, in neurons, that a feed-forward network or one expert may have."""
    sizes, hidden = set(_numbers(config, _WIDTHS)), int(config.hidden_size)
    # Several shared experts are one network of their summed width.
    sizes |= {width * n for width in sizes for n in _numbers(config, _SHARED_EXPERTS)}
    sizes |= {int(multiple * hidden) for multiple in _values(config, _MULTIPLES)} | _derived(config)
    return sizes or {4 * hidden}  # where nothing is said, as in the GPT-2 family


def residual_widths(config: PreTrainedConfig) -> set[int]:
    """Return the widths of the hidden states that blocks read and write; MobileBERT's are narrower within blocks."""
    return {int(config.hidden_size), *_numbers(config, ("true_hidden_size",))}


def expert_counts(config: PreTrainedConfig) -> set[int]:
    """Return the numbers of routed experts a layer may have."""
    return set(_numbers(config, _EXPERTS))


def layer_counts(config: PreTrainedConfig, stack: str) -> set[int]:
    """Return the numbers of blocks a stack may have."""
    names = _DECODER_LAYERS if stack == "decoder" and config.is_encoder_decoder else _ENCODER_LAYERS
    return set(_numbers(config, names)[:1])


def padding_multiple(config: PreTrainedConfig) -> int:
    """Return the multiple of tokens to which a model itself pads texts, 0 if it does not."""
    return max(_numbers(config, ("attention_window",)), default=0)


def _derived(config: PreTrainedConfig) -> set[int]:
    """Return the width where an architecture computes it from what its configuration says."""
    match config.model_type:
        case "recurrent_gemma":
            return {config.intermediate_size // 2}
        case "lfm2" | "lfm2_moe" if getattr(config, "block_auto_adjust_ff_dim", False):
            width = int(config.block_ffn_dim_multiplier * int(2 * config.intermediate_size / 3))
            return {config.block_multiple_of * -(-width // config.block_multiple_of)}
        case "xlstm":
            multiple = config.ffn_round_up_to_multiple_of
            return {int(-(-config.ffn_proj_factor * config.hidden_size // multiple) * multiple)}
    return set()


def _numbers(config: PreTrainedConfig, names: Iterable[str]) -> list[int]:
    return [value for value in _values(config, names) if isinstance(value, int) and value > 0]


def _values(config: PreTrainedConfig, names: Iterable[str]) -> list[Any]:
    """Return the attributes of these names that are set; a list, one value a layer, is flattened."""
    set_so = (getattr(config, name, None) for name in names)
    values = [one for value in set_so for one in (value if isinstance(value, list | tuple) else [value])]
    return [value for value in values if value is not None and not isinstance(value, bool)]
