"""Which revisions of a model are a series, and what a store holds of them: asked before anything is loaded."""

import dataclasses
import datetime
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import IngestError, UnknownNameError, joined
from ...schema import parquet
from ...schema.conformance import conform
from ...schema.disk import store_errors
from ...schema.names import identifier
from ...schema.store import Store
from ..models.checkpoint import list_revisions
from ..models.steps import gaps, parse_step
from .reports import IngestReport
from .settings import Request

_COLUMNS = ("run_id", "model", "revision", "step", "request_id", "n_instances", "n_truncated", "n_dropped")


class KnownRuns:
    """The runs and the listed checkpoints of a store, which need not exist, as they are now."""

    def __init__(self, store: Store) -> None:
        self.store = store
        runs = parquet.read(store.files("runs"), _COLUMNS, may_lack=("request_id",)).to_pylist()
        self._by_request = {run["request_id"]: run for run in runs if run["request_id"] is not None}
        self._run_steps: dict[tuple[str, str], dict[str, int | None]] = defaultdict(dict)
        for run in runs:
            self._run_steps[run["model"], run["revision"]][run["run_id"]] = run["step"]
        # A later row of a revision corrects its step.
        listed = parquet.read(store.files("checkpoints"), ("model", "revision", "step", "listed_at"))
        rows = listed.sort_by("listed_at").to_pylist()
        self.listed_steps = {(row["model"], row["revision"]): row["step"] for row in rows}

    def step(self, model: str, revision: str) -> int | None:
        """Return the training step that the store holds for a revision: that of its runs, else the last one listed."""
        known = (step for step in self._run_steps[model, revision].values() if step is not None)
        return next(known, self.listed_steps.get((model, revision)))

    def refusal(self, model: str, revision: str, step: int) -> str | None:
        """Return why a revision cannot have a training step, if a run has it at another or without one; else None."""
        for run_id, known in self._run_steps[model, revision].items():
            if known != step:
                other = "without a step" if known is None else f"at step {known}"
                held = f"run {run_id} in {self.store.path} has it {other}"
                return f"it cannot be step {step} of {model}: {held}; measure the series under another --name"
        return None

    def with_step(self, request: Request) -> Request:
        """Return a request at the step that the store holds for its revision; refuse another that it names."""
        model, revision = request.checkpoint.stored_name, request.checkpoint.stored_revision
        if request.step is None:
            return dataclasses.replace(request, step=self.step(model, revision))
        if refusal := self.refusal(model, revision, request.step):
            raise IngestError(refusal)
        return request

    def report(self, request: Request) -> IngestReport | None:
        """Return the report on a request of which the store holds the run and its coactivations; None if it may not."""
        coactivation = request.coactivation
        run = self._by_request.get(request.identifier(request.checkpoint.locate().fingerprint() or request.commit))
        if run is None or (commit := self.store.commit(run["run_id"])) is None:
            return None
        if coactivation is not None and self.store.commit(coactivation.job_name(commit.job)) is None:
            return None
        if request.lacking_controls(commit.job) or request.lacking_additions(commit.job):
            return None
        n_rows = Counter[str]()
        for file in commit.files:
            n_rows[file.table] += file.n_rows
        return IngestReport(
            run_id=commit.job,
            model=request.checkpoint.stored_name,
            revision=request.checkpoint.stored_revision,
            is_new=False,
            n_layers=n_rows["layers"],
            n_neurons=n_rows["neurons"],
            n_functions=n_rows["run_functions"],
            **{name: run[name] for name in ("n_instances", "n_truncated", "n_dropped")},
            activity=None if coactivation is None else coactivation.activity,
        )


def lacks_coactivations(request: Request, run_id: str, n_instances: int) -> bool:
    """Return whether the store lacks coactivations asked for; refuse those that would overlap others."""
    store, coactivation = request.corpus.store, request.coactivation
    if coactivation is None or store.commit(coactivation.job_name(run_id)) is not None:
        return False
    coactivation.n_highest(n_instances)
    files = [str(path) for path in store.files("coactivations")]
    if not files:
        return True
    same = [("run_id", "=", run_id), ("activity", "=", coactivation.activity)]
    neuron = ["stack", "layer", "neuron"]
    with store_errors(f"cannot read the coactivations of {store.path}", pa.ArrowException):
        stored = pq.read_table(files, columns=neuron, filters=same, partitioning=None)
    if len(stored):
        n_stored = max(stored.group_by(neuron).aggregate([([], "count_all")])["count_all"].to_pylist())
        held = f"coactivations ({coactivation.activity}) of run {run_id}"
        partners = f"up to {n_stored} partners a neuron; {coactivation.n_partners} cannot stand beside them"
        raise IngestError(f"the store holds {held} already, with {partners}")
    return True


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
    model: str,
    patterns: Sequence[str] | None,
    steps: Mapping[str, int] | None,
    stored: Callable[[str], int | None] = lambda _: None,
) -> tuple[ListedCheckpoint, ...]:
    """Return the revisions of a model (hub id or folder) that are asked for, in the order of their steps.

    They are those whose names match shell-style patterns; without patterns those that `steps` names, or all. `steps`
    are training steps by revision, in place of those `stored` and of the step in a name; a revision named there is
    listed whether it is there or not. A pattern that nothing matches, or files alone, is refused.
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
            next((step for step in (steps.get(revision), stored(revision)) if step is not None), parse_step(revision)),
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


def record_checkpoints(checkpoints: Sequence[ListedCheckpoint], model: str, known_runs: KnownRuns) -> None:
    """Commit those checkpoints that the store does not list at their step, unless a run holds another."""
    new = [
        checkpoint
        for checkpoint in checkpoints
        if ((model, checkpoint.revision), checkpoint.step) not in known_runs.listed_steps.items()
        and (checkpoint.step is None or known_runs.refusal(model, checkpoint.revision, checkpoint.step) is None)
    ]
    if not new:
        return
    # A step may be corrected, and corrected back: which list this is, by number, is part of the name. When is not: the
    # same command would not find what it was killed in.
    definition = {
        "model": model,
        "checkpoints": [[checkpoint.revision, checkpoint.step, checkpoint.source] for checkpoint in new],
        "n_lists": sum(commit.kind == "checkpoints" for commit in known_runs.store.commits()),
    }
    rows = [{name: getattr(checkpoint, name) for name in ("revision", "step", "source")} for checkpoint in new]
    listed_at = datetime.datetime.now(datetime.UTC)
    with known_runs.store.job(f"checkpoints-{identifier(definition)}", kind="checkpoints", resume=False) as job:
        job.write("checkpoints", conform("checkpoints", rows, model=model, listed_at=listed_at), model=model)
        job.commit()
