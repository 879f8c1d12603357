"""What is set in a model before it is read, so that all of it can be read, and a text does not depend on others."""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from ..neurons.layers import is_fused_bank

__all__ = ["adjust"]


def adjust(body: nn.Module, label: str) -> Iterator[str]:
    """Set what must be set; yield what the caller should be told of it."""
    sparse = [each for each in body.modules() if getattr(each, "attention_type", None) == "block_sparse"]
    for each in sparse:  # BigBird's sparse attention is switched off for good by the first short text
        change = getattr(each, "set_attention_type", None)
        if callable(change):
            change("original_full")
    if sparse:
        yield f"{label} attends to texts of any length in full, not by sparse blocks"
    banks = [each for each in body.modules() if is_fused_bank(each)]
    if not banks or not isinstance(body, PreTrainedModel):
        return
    default: str = banks[0].config._experts_implementation  # type: ignore[union-attr, assignment]
    chosen = default
    if default == "eager":  # expert by expert, which shows nothing to read
        chosen = "grouped_mm"
    if chosen == "grouped_mm" and not all(map(_is_aligned, banks)):
        chosen = "batched_mm"
    if chosen != default:
        body.set_experts_implementation(chosen)
        yield f"{label} runs its experts by transformers' {chosen}, not its default, {default}"


def _is_aligned(bank: nn.Module) -> bool:
    """Return whether a bank's rows begin at multiples of 16 bytes, as torch's grouped products ask for."""
    held = [each for each in bank.parameters(recurse=False) if each.ndim == 3]
    return all(each.stride(-2) * each.element_size() % 16 == 0 for each in held)
