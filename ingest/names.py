"""What a model and its revision are called: names under which they are stored, and the step a name tells."""

import re
from pathlib import Path

from ..errors import IngestError

__all__ = ["MAX_STEP", "as_path", "parse_step", "stored_name"]

MAX_STEP = 2**63 - 1
"""The largest training step that a store can hold."""

_STEP = re.compile(
    r"(?:^|[^a-z])(?:global[-_]?step|step|checkpoint|ckpt|iteration|iter)s?[-_=]?(\d+)([km]?)(?![0-9a-z])",
    re.IGNORECASE,
)
_FACTORS = {"": 1, "k": 1000, "m": 1_000_000}


def as_path(name: str) -> Path:
    """Return the path that a model's or tokenizer's name may be.

    Raises
    ------
    IngestError
        If whether there is anything cannot be told: it is too long, or a folder above it may not be read.
    """
    path = Path(name)
    try:
        path.is_dir()
    except OSError as error:
        raise IngestError(f"cannot read {name}: {error.strerror}") from error
    return path


def stored_name(model: str) -> str:
    """Return the name a model is stored under unless another is given: of a path its last part, else the hub id.

    Examples
    --------
    >>> stored_name("google-bert/bert-base-uncased"), stored_name("downloads/SmolLM2-135M.gguf")
    ('google-bert/bert-base-uncased', 'SmolLM2-135M')
    """
    path = as_path(model)
    if path.suffix == ".gguf":
        return path.stem
    return path.resolve().name if path.is_dir() else model


def parse_step(revision: str) -> int | None:
    """Return the training step a revision's name tells, None if it tells none that a store can hold.

    Examples
    --------
    >>> parse_step("step3000"), parse_step("iter_0001000"), parse_step("step_5k"), parse_step("main")
    (3000, 1000, 5000, None)
    """
    found = _STEP.search(revision)
    step = int(found[1]) * _FACTORS[found[2].lower()] if found else None
    return None if step is None or step > MAX_STEP else step
