"""What is set in a model before it is read, so that all of it can be read, and a text does not depend on others."""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from .layers import is_fused_bank

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
    eager = any(bank.config._experts_implementation == "eager" for bank in banks)  # type: ignore[union-attr]
    if eager and isinstance(body, PreTrainedModel):  # expert by expert, which shows nothing to read
        body.set_experts_implementation("grouped_mm")
        yield f"{label} runs its experts by transformers' grouped_mm, not its default, eager"
