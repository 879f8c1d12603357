"""Which revisions of a model are a series of checkpoints, at which training steps; the store's list of them."""

import datetime
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from ...errors import IngestError, UnknownNameError, joined
from ...schema.conformance import conform
from ...schema.names import identifier
from ...schema.store import Store
from ..models.checkpoint import list_revisions
from ..models.steps import gaps, parse_step
from .known_runs import KnownRuns


@dataclass(frozen=True, slots=True)
class ListedCheckpoint:
    """One revision of a series."""

    revision: str
    step: int | None  # training step, None when unknown
    source: Literal["hub", "folder", "file"]  # where it was listed: hub, folder, or the file that names revisions
    commit: str | None  # its commit on the hub, None if not listed there

    @property
    def place(self) -> tuple[bool, int, str]:
        """Sorts checkpoints by step and then by name, those without a step last."""
        return self.step is None, self.step or 0, self.revision


def choose_checkpoints(
    model: str, patterns: Sequence[str] | None, steps: Mapping[str, int] | None
) -> tuple[ListedCheckpoint, ...]:
    """Return the revisions of a model (hub id or folder) that are asked for, in the order of their steps.

    They are those whose names match shell-style patterns; without patterns those that `steps` names, or all. `steps`
    are training steps by revision, in place of the step in a name; a revision named there is listed whether it is there
    or not. Raises UnknownNameError if nothing matches a pattern, IngestError if files alone do.
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
    return tuple(sorted(checkpoints, key=lambda checkpoint: checkpoint.place))


def oddities(checkpoints: Sequence[ListedCheckpoint], asked: Mapping[str, int]) -> Iterator[str]:
    """Yield a note on everything that looks wrong with a series; `asked` are the steps that were given."""
    by_step: dict[int, list[str]] = defaultdict(list)
    for checkpoint in checkpoints:
        if checkpoint.step is not None:
            by_step[checkpoint.step].append(checkpoint.revision)
    excluded = asked.keys() - {checkpoint.revision for checkpoint in checkpoints}
    if names := sorted(excluded, key=lambda revision: (asked[revision], revision)):
        yield f"not measured, though a step is given: {joined(names)}; --revisions leaves them out"
    named = [revision for revisions in by_step.values() for revision in revisions if revision not in asked]
    if asked and named:
        yield f"no step is given of {joined(named)}: it is the one of the name, or that the store holds"
    if unknown := [checkpoint.revision for checkpoint in checkpoints if checkpoint.step is None]:
        yield f"no step is known of {joined(unknown)}: their names tell none; --steps can, before they are measured"
    for step, revisions in by_step.items():
        if len(revisions) > 1:
            yield f"step {step} is of several revisions: {joined(revisions)}"
    for steps, rhythm in gaps(by_step):
        yield f"no checkpoint at step {joined(steps)}, where steps are otherwise {rhythm}"


def record_checkpoints(
    checkpoints: Sequence[ListedCheckpoint], model: str, known_runs: KnownRuns, store: Store
) -> None:
    """Commit those checkpoints that the store does not list at their step, unless a run holds another."""
    new = [
        checkpoint
        for checkpoint in checkpoints
        if not known_runs.lists(model, checkpoint.revision, checkpoint.step)
        and (checkpoint.step is None or known_runs.refusal(model, checkpoint.revision, checkpoint.step) is None)
    ]
    if not new:
        return
    # A step may be corrected, and corrected back: which list this is, by number, is part of the name. When is not: the
    # same command would not find what it was killed in.
    definition = {
        "model": model,
        "checkpoints": [[checkpoint.revision, checkpoint.step, checkpoint.source] for checkpoint in new],
        "n_lists": sum(commit.kind == "checkpoints" for commit in store.commits()),
    }
    rows = [{name: getattr(checkpoint, name) for name in ("revision", "step", "source")} for checkpoint in new]
    listed_at = datetime.datetime.now(datetime.UTC)
    with store.job(f"checkpoints-{identifier(definition)}", kind="checkpoints", resume=False) as job:
        job.write("checkpoints", conform("checkpoints", rows, model=model, listed_at=listed_at), model=model)
        job.commit()
