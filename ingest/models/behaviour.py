"""How a model treats a text, measured by running it on short ones: configurations are not reliable."""

import contextlib
import inspect
from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel

from ...errors import IngestError, one_line
from ..neurons.expert_modules import is_fused_experts, is_list_of_experts


def is_causal(body: nn.Module, label: str) -> bool:
    """Return whether a token's state ignores the tokens that follow it.

    Raise `IngestError` if the model, named by `label`, does not run on text.
    """
    before, after = _states(body, label, ([1, 1, 1, 1], [1, 1, 1, 2]), [1, 1, 1, 1])
    return _are_equal(before[:, :-1], after[:, :-1], body)


def sees_padding(body: nn.Module, label: str) -> bool:
    """Return whether a token's state depends on padding tokens, although they are masked; raises as `is_causal`."""
    before, after = _states(body, label, ([1, 2, 3, 1, 1, 1], [1, 2, 3, 2, 3, 2]), [1, 1, 1, 0, 0, 0])
    return not _are_equal(before[:, :3], after[:, :3], body)


def _states(body: nn.Module, label: str, texts: tuple[list[int], list[int]], mask: list[int]) -> list[torch.Tensor]:
    """Run two texts of one length; where their difference has no influence, states are equal to the bit."""
    device = next(body.parameters()).device
    takes_mask = "attention_mask" in inspect.signature(body.forward).parameters
    inputs = {"attention_mask": torch.tensor([mask], device=device)} if takes_mask else {}
    try:
        with torch.inference_mode(), _experts_apart(body):
            return [body(input_ids=torch.tensor([text], device=device), **inputs)[0] for text in texts]
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise IngestError(f"model {label} ({type(body).__name__}) does not run on text: {one_line(error)}") from error


def _are_equal(before: torch.Tensor, after: torch.Tensor, body: nn.Module) -> bool:
    """Return whether states are equal: to the bit, or to rounding where each expert multiplies its own rows alone."""
    if not any(map(is_list_of_experts, body.modules())):
        return torch.equal(before, after)
    rounding = torch.finfo(before.dtype).eps ** 0.5
    return bool((before - after).abs().max() <= rounding * before.abs().max())


@contextlib.contextmanager
def _experts_apart(body: nn.Module) -> Iterator[None]:
    """Run experts token by token: in one matrix product, rounding depends on how many tokens an expert gets."""
    if not (isinstance(body, PreTrainedModel) and any(map(is_fused_experts, body.modules()))):
        yield
        return
    before = body.get_experts_implementation()
    body.set_experts_implementation("batched_mm")
    try:
        yield
    finally:
        body.set_experts_implementation(before)
