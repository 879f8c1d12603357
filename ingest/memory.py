"""What is said where memory does not suffice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import IngestError, one_line

__all__ = ["explaining_lack_of_memory"]

# How torch's allocator on the CPU and those of GPUs other than CUDA's say it, by a RuntimeError.
_PHRASES = ("not enough memory", "out of memory", "can't allocate memory")


@contextmanager
def explaining_lack_of_memory(label: str) -> Iterator[None]:
    """Turn a lack of memory while a model runs, or its activations are scored, into one line that says what helps.

    Raises
    ------
    IngestError
        If memory does not suffice; `label` names the model.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        is_device = isinstance(error, torch.OutOfMemoryError)
        if not (isinstance(error, MemoryError) or is_device or any(each in str(error) for each in _PHRASES)):
            raise
        place = "the device" if is_device else "this machine"
        raise IngestError(
            f"model {label}: {place} has not enough memory ({one_line(error, 120)}); lower `batch_tokens` or "
            "`memory_bytes`, or choose another `device`"
        ) from error
