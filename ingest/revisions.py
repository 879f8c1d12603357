"""Which revisions of a model are a series of checkpoints, and at which training steps."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from ..errors import IngestError, UnknownNameError, one_line
from .names import MAX_STEP, parse_step
from .source import list_revisions

__all__ = ["Checkpoint", "choose_checkpoints", "read_steps"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One revision of a series.

    Parameters
    ----------
    revision
        Its name.
    step
        Training step, None when unknown.
    source
        Where it was listed: hub, folder, or the file that names revisions.
    commit
        Its commit on the hub, None if not listed there.
    """

    revision: str
    step: int | None
    source: Literal["hub", "folder", "file"]
    commit: str | None

    @property
    def place(self) -> tuple[bool, int, str]:
        """Sorts checkpoints by step and then by name, those without a step last."""
        return self.step is None, self.step or 0, self.revision


def choose_checkpoints(
    model: str, patterns: Sequence[str] | None, steps: Mapping[str, int] | None
) -> tuple[Checkpoint, ...]:
    """Return the revisions of a model that are asked for, in order.

    Parameters
    ----------
    model
        Hub id or folder.
    patterns
        Shell-style patterns of names, such as ``step*``; None: those that `steps` names, or all.
    steps
        Training step by revision, which goes before the step that a name tells. A revision that it names is listed
        whether it is there or not.

    Raises
    ------
    IngestError
        If the revisions cannot be listed, or files alone match a pattern.
    UnknownNameError
        If nothing matches a pattern.
    """
    listing, steps = list_revisions(model), steps or {}
    known = sorted({*listing.commits, *steps})
    if patterns is None:
        chosen = set(steps or known)
        if not chosen:
            raise UnknownNameError("revision", "*", known, where=model)
    else:
        chosen = set()
        for pattern in patterns:
            matching = {revision for revision in known if fnmatchcase(revision, pattern)}
            files = sorted(file for file in listing.files if fnmatchcase(file, pattern))
            if not matching and files:
                raise IngestError(f"no revision {pattern!r} in {model}: {files[0]} is a file, not a folder")
            if not matching:
                raise UnknownNameError("revision", pattern, known, where=model)
            chosen |= matching
    is_by_file = patterns is None and bool(steps)
    checkpoints = [
        Checkpoint(
            revision,
            steps.get(revision, parse_step(revision)),
            "file" if is_by_file or revision not in listing.commits else listing.kind,
            listing.commits.get(revision),
        )
        for revision in chosen
    ]
    return tuple(sorted(checkpoints, key=lambda each: each.place))


def read_steps(file: Path) -> dict[str, int]:
    """Read training steps by revision: a CSV file with columns revision and step, or a JSON object.

    Raises
    ------
    IngestError
        If the file cannot be read, a row names no revision, a step is no whole number from 0 on or more than a store
        can hold, or a revision has two.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise ValueError("it is empty")
        pairs = _json_pairs(text) if file.suffix.lower() == ".json" else list(_csv_pairs(text))
    except (OSError, ValueError, csv.Error) as error:
        raise IngestError(f"cannot read the steps in {file}: {one_line(error)}") from error
    steps: dict[str, int] = {}
    for revision, step in pairs:
        if not revision:
            raise IngestError(f"{file}: step {step} has no revision")
        if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step <= MAX_STEP:
            raise IngestError(
                f"{file}: revision {revision!r} has step {step!r}, which is no whole number from 0 to 2**63 - 1"
            )
        if steps.setdefault(revision, step) != step:
            raise IngestError(f"{file}: revision {revision!r} has two steps, {steps[revision]} and {step}")
    if not steps:
        raise IngestError(f"{file} names no revision")
    return steps


def _json_pairs(text: str) -> Iterable[tuple[str, object]]:
    # As pairs, so that a revision named twice is seen.
    pairs = json.loads(text, object_pairs_hook=tuple)
    if not isinstance(pairs, tuple):
        raise ValueError("it is no JSON object of steps by revision")
    return pairs


def _csv_pairs(text: str) -> Iterable[tuple[str, object]]:
    lines = csv.reader(text.strip().splitlines(), strict=True)
    names = [name.strip() for name in next(lines)]
    missing = {"revision", "step"} - set(names)
    if missing:
        raise ValueError(f"it has no column {min(missing)}; there are: {', '.join(names)}")
    for cells in lines:
        if cells:
            row = dict(zip_longest(names, map(str.strip, cells), fillvalue=""))
            step = row["step"]
            yield row["revision"], int(step) if step.isdecimal() else step
