"""Tensors of a checkpoint: their digests, and those that nothing reads.

Of the latter, tensors of heads and buffers are ignored, those of the body refused.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from ...errors import IngestError
from ..neurons.weights import plain

_NAMES = tomllib.loads(Path(__file__).with_name("tensor_names.toml").read_text(encoding="utf-8"))
_CALLED = {what: re.compile(pattern, re.VERBOSE) for what, pattern in _NAMES.items()}
OPTIONAL_WEIGHTS = _CALLED["optional"]


@dataclass(frozen=True, slots=True)
class TensorDigest:
    """The digest of one tensor of a model."""

    tensor: str  # its name in the state of the model
    sha256: str  # digest of its name, type, shape and bytes
    n_values: int  # how many numbers it holds


def tensor_digests(body: nn.Module, label: str) -> tuple[TensorDigest, ...]:
    """Return the digests of parameters and buffers by name; raise `IngestError` if one holds NaN or infinite values."""

    def digest_one(item: tuple[str, torch.Tensor]) -> TensorDigest:
        name, tensor = item
        if tensor.is_floating_point():
            tensor = plain(tensor)
            if not bool(torch.isfinite(tensor).all()):
                raise IngestError(f"model {label}: weight {name} holds NaN or infinite values")
        values = tensor.detach().to("cpu").contiguous()
        digest = hashlib.sha256(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
        return TensorDigest(name, digest.hexdigest(), values.numel())

    # Optional weights are excluded: where the checkpoint lacks them, they are random.
    tensors = [item for item in sorted(body.state_dict().items()) if not OPTIONAL_WEIGHTS.search(item[0])]
    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(digest_one, tensors))


def check_unread(unexpected: Iterable[str], whole: PreTrainedModel, text_model: PreTrainedModel, label: str) -> None:
    """Refuse tensors without a place in `whole` that lie in the text model, or are not known to lie outside of it."""
    keys = sorted(unexpected)
    further = tuple(f"{match[1]}." for key in keys if (match := _CALLED["later_tokens"].match(key)))
    body = whole.base_model
    path = next((path for path, module in body.named_modules() if module is text_model), "")
    children = {name for name, _ in text_model.named_children()}
    parts = {name for name, _ in body.named_children()}
    unread = []
    for key in keys:
        if OPTIONAL_WEIGHTS.search(key) or _CALLED["buffer"].search(key) or key.startswith(further):
            continue
        name = key.removeprefix(f"{whole.base_model_prefix}.")
        of_another_part = path and not name.startswith(f"{path}.") and name.partition(".")[0] in parts
        if _CALLED["other_stack"].search(name) or of_another_part:  # of a multimodal model
            continue
        name = name.removeprefix(f"{path}.")
        if name.partition(".")[0] in children or not _CALLED["head"].search(name) or _is_within_weights(key, whole):
            unread.append(key)
    if unread:
        problem = f"model {label}: {unread[0]} is not read, the first of {len(unread):,} such tensors of the checkpoint"
        raise IngestError(f"{problem}: {type(whole).__name__} as configured has no place for them")


def _is_within_weights(key: str, whole: PreTrainedModel) -> bool:
    """Return whether a tensor belongs to a module with weights of its own, as a scale of a head's weights does."""
    modules = dict(whole.named_modules())
    paths = accumulate(key.split(".")[:-1], "{}.{}".format)
    inner = [modules[path] for path in paths if path in modules][-1:]
    return any(next(module.parameters(recurse=False), None) is not None for module in inner)
