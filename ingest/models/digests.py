"""Digests of the tensors of a model."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import nn

from ...errors import IngestError
from ..neurons.weights import plain

# Weights that a checkpoint may lack without harm: they come after the last feed-forward layer.
OPTIONAL_WEIGHTS = re.compile(r"(^|\.)pooler\.")


@dataclass(frozen=True, slots=True)
class TensorDigest:
    """The digest of one tensor of a model."""

    name: str  # name of the tensor in the state of the model
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
