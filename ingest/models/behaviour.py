"""How a model treats a text: set so that all of it can be read, and tried, for configurations are not reliable."""

import contextlib
import inspect
from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel

from ...errors import IngestError, one_line
from ..neurons.experts import is_fused_experts, is_list_of_experts


def adjust(body: nn.Module, label: str) -> Iterator[str]:
    """Switch BigBird to full attention and experts to an implementation that can be read; yield a sentence on each."""
    sparse = sparse_attention(body)
    for module in sparse:  # BigBird's sparse attention is switched off for good by the first short text
        module.set_attention_type("original_full")  # type: ignore[operator]
    if sparse:
        yield f"{label} attends to texts of any length in full, not by sparse blocks"
    experts = [module for module in body.modules() if is_fused_experts(module)]
    if not experts or not isinstance(body, PreTrainedModel):
        return
    default: str = experts[0].config._experts_implementation  # type: ignore[union-attr, assignment]
    chosen = "grouped_mm" if default == "eager" else default  # eager runs expert by expert, which cannot be read
    # Rows must begin at multiples of 16 bytes, as torch's grouped products ask for.
    weights = [weight for module in experts for weight in module.parameters(recurse=False) if weight.ndim == 3]
    if chosen == "grouped_mm" and any(weight.stride(-2) * weight.element_size() % 16 for weight in weights):
        chosen = "batched_mm"
    if chosen != default:
        body.set_experts_implementation(chosen)
        yield f"{label} runs its experts by transformers' {chosen}, not its default, {default}"


def sparse_attention(body: nn.Module) -> list[nn.Module]:
    """Return the modules that attend by sparse blocks."""
    return [module for module in body.modules() if getattr(module, "attention_type", None) == "block_sparse"]


def is_causal(body: nn.Module, label: str) -> bool:
    """Return whether a token's state ignores those after it; raise `IngestError` if the model cannot run on text."""
    return _give_equal_states(body, label, ([1, 1, 1, 1], [1, 1, 1, 2]), [1, 1, 1, 1])


def sees_padding(body: nn.Module, label: str) -> bool:
    """Return whether a token's state depends on padding tokens, although they are masked; raises as `is_causal`."""
    return not _give_equal_states(body, label, ([1, 2, 3, 1, 1, 1], [1, 2, 3, 2, 3, 2]), [1, 1, 1, 0, 0, 0])


def _give_equal_states(body: nn.Module, label: str, texts: tuple[list[int], list[int]], mask: list[int]) -> bool:
    """Run two texts that differ behind their third token, and return whether the states up to that are equal."""
    device = next(body.parameters()).device
    takes_mask = "attention_mask" in inspect.signature(body.forward).parameters
    inputs = {"attention_mask": torch.tensor([mask], device=device)} if takes_mask else {}
    try:
        with torch.inference_mode(), _tried(body):
            states = [body(input_ids=torch.tensor([text], device=device), **inputs)[0][:, :3] for text in texts]
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise IngestError(f"model {label} ({type(body).__name__}) does not run on text: {one_line(error)}") from error
    before, after = states
    if not any(map(is_list_of_experts, body.modules())):
        return torch.equal(before, after)
    # To rounding, where each expert multiplies its own rows alone
    rounding = torch.finfo(before.dtype).eps ** 0.5
    return bool((before - after).abs().max() <= rounding * before.abs().max())


@contextlib.contextmanager
def _tried(body: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode, and experts token by token: in one product, rounding depends on their number."""
    with contextlib.ExitStack() as undo:
        for module in body.modules():
            undo.callback(setattr, module, "training", module.training)
        body.eval()
        if isinstance(body, PreTrainedModel) and any(map(is_fused_experts, body.modules())):
            undo.callback(body.set_experts_implementation, body.get_experts_implementation())
            body.set_experts_implementation("batched_mm")
        yield
