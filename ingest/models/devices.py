"""Models on devices: moving them there, spreading their layers over GPUs, and what helps where memory is short."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ...errors import IngestError, one_line

# How torch says that memory does not suffice, on the CPU and on GPUs, by errors that are RuntimeErrors.
_PHRASES = ("not enough memory", "out of memory", "can't allocate memory")


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that memory does not suffice."""
    return isinstance(error, MemoryError) or any(phrase in str(error).lower() for phrase in _PHRASES)


@contextmanager
def explaining_lack_of_memory(label: str, *lower: str) -> Iterator[None]:
    """Turn a lack of memory inside into an `IngestError`; `lower` are parameters that take less when they are lower."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not lacks_memory(error):
            raise
        lowered = " or ".join(f"`{name}`" for name in lower) or "the size of its numbers (`dtype`)"
        problem = f"model {label} runs out of memory ({one_line(error, 120)})"
        raise IngestError(f"{problem}; lower {lowered}, or choose another `device`") from error


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the CPU on a device; the CPU does not wait for a GPU to take it."""
    # Only from pinned memory is a copy made while the CPU goes on.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def device_name(module: nn.Module) -> str:
    """Return the devices that hold a module's parameters, such as ``cpu`` or the name of a GPU, joined by commas."""
    devices = sorted({parameter.device for parameter in module.parameters()}, key=str)
    return ", ".join(torch.cuda.get_device_name(device) if device.type == "cuda" else str(device) for device in devices)


def place(body: nn.Module, device: str, label: str) -> nn.Module:
    """Return a module moved to a torch device, or, if that is ``split``, its layers spread over all GPUs."""
    try:
        with explaining_lack_of_memory(label):
            if device == "split":
                return _split(body, label)
            if torch.device(device).type == "meta":
                raise RuntimeError("the device meta computes nothing")
            return body.to(device)
    except (RuntimeError, AssertionError) as error:
        raise IngestError(f"model {label} does not load on device {device}: {one_line(error)}") from error


def _split(body: nn.Module, label: str) -> nn.Module:
    try:
        from accelerate import dispatch_model, infer_auto_device_map  # type: ignore[import-untyped]
    except ImportError as error:
        raise IngestError("device split needs the package accelerate: pip install accelerate") from error
    whole_classes = list(getattr(body, "_no_split_modules", None) or [])
    device_map = infer_auto_device_map(body, no_split_module_classes=whole_classes)
    if not torch.cuda.is_available() or {"cpu", "disk"} & set(map(str, device_map.values())):
        problem = f"model {label} does not fit on the {torch.cuda.device_count()} GPUs there are"
        raise IngestError(f"{problem}; device split spreads layers over GPUs only")
    return dispatch_model(body, device_map)  # type: ignore[no-any-return]
