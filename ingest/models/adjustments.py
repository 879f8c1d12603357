"""Adjusting a loaded model so that all of it can be read, and no text depends on others."""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from ..neurons.expert_modules import is_fused_experts


def adjust(body: nn.Module, label: str) -> Iterator[str]:
    """Switch BigBird to full attention and experts to an implementation that can be read, in place.

    Yield one sentence for the user per adjustment; `label` names the model.
    """
    sparse = [module for module in body.modules() if getattr(module, "attention_type", None) == "block_sparse"]
    for module in sparse:  # BigBird's sparse attention is switched off for good by the first short text
        module.set_attention_type("original_full")  # type: ignore[operator]
    if sparse:
        yield f"{label} attends to texts of any length in full, not by sparse blocks"
    experts = [module for module in body.modules() if is_fused_experts(module)]
    if not experts or not isinstance(body, PreTrainedModel):
        return
    default: str = experts[0].config._experts_implementation  # type: ignore[union-attr, assignment]
    chosen = "grouped_mm" if default == "eager" else default  # eager runs expert by expert, which cannot be read
    if chosen == "grouped_mm" and not all(map(_is_aligned, experts)):
        chosen = "batched_mm"
    if chosen != default:
        body.set_experts_implementation(chosen)
        yield f"{label} runs its experts by transformers' {chosen}, not its default, {default}"


def _is_aligned(experts: nn.Module) -> bool:
    """Return whether rows of the weights begin at multiples of 16 bytes, as torch's grouped products ask for."""
    weights = [weight for weight in experts.parameters(recurse=False) if weight.ndim == 3]
    return all(weight.stride(-2) * weight.element_size() % 16 == 0 for weight in weights)
