"""Which revisions of a model are a series of checkpoints, and at which training steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from ...errors import IngestError, UnknownNameError
from ..models.source import list_revisions
from ..models.steps import parse_step

__all__ = ["ListedCheckpoint", "choose_checkpoints"]


@dataclass(frozen=True, slots=True)
class ListedCheckpoint:
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
) -> tuple[ListedCheckpoint, ...]:
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
        ListedCheckpoint(
            revision,
            steps.get(revision, parse_step(revision)),
            "file" if is_by_file or revision not in listing.commits else listing.kind,
            listing.commits.get(revision),
        )
        for revision in chosen
    ]
    return tuple(sorted(checkpoints, key=lambda each: each.place))
