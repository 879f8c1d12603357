"""Saying what helps where memory does not suffice."""

from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import IngestError, one_line

__all__ = ["explaining_lack_of_memory", "lacks_memory"]

# How torch says it, of the CPU and of GPUs, by errors that are RuntimeErrors.
_PHRASES = ("not enough memory", "out of memory", "can't allocate memory")


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that memory does not suffice."""
    return isinstance(error, MemoryError) or any(phrase in str(error).lower() for phrase in _PHRASES)


@contextmanager
def explaining_lack_of_memory(label: str, *lower: str) -> Iterator[None]:
    """Turn a lack of memory inside the context into an `IngestError` that says what helps.

    `label` names the model; `lower` are the names of parameters that take less memory when they are lower.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not lacks_memory(error):
            raise
        lowered = " or ".join(f"`{name}`" for name in lower) or "the size of its numbers (`dtype`)"
        raise IngestError(
            f"model {label} runs out of memory ({one_line(error, 120)}); lower {lowered}, or choose another `device`"
        ) from error
