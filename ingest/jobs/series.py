"""A series of checkpoints as one job: each is measured for itself, and one that fails leaves the others be."""

import datetime
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import pyarrow as pa

from ...errors import IngestError, UnknownNameError
from ...progress import Progress, SilentProgress
from ...schema.conformance import arrow_schema
from ...schema.identity import identifier
from ...schema.store import Store
from ...schema.tables import table
from ..corpora.stored import StoredCorpus
from ..models.checkpoint import Checkpoint
from ..models.steps import gaps
from .known_runs import HeldRuns
from .plan import IngestPlan, plan_measurement
from .request import Request
from .revisions import ListedCheckpoint, choose_checkpoints
from .settings import Coactivation, Resources, Settings, checked
from .summary import IngestReport

__all__ = ["Failure", "Outcome", "SeriesReport", "ingest_checkpoints", "ingest_series"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A revision that could not be measured.

    Parameters
    ----------
    revision
        Its name.
    reason
        Why, as one line.
    """

    revision: str
    reason: str

    def describe(self) -> str:
        """Return revision and reason as one line."""
        return f"revision {self.revision}: {self.reason}"


Outcome = IngestReport | IngestPlan | Failure
"""What became of one checkpoint, or would become of it."""


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """What a job over several checkpoints did.

    Parameters
    ----------
    outcomes
        What became of each, in the order measured.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The revisions that could not be measured."""
        return tuple(each for each in self.outcomes if isinstance(each, Failure))

    def describe(self) -> str:
        """Return how many failed, and which, as one line."""
        failed = ", ".join(each.revision for each in self.failures)
        line = f"{len(self.failures)} of {len(self.outcomes)} revisions failed"
        return f"{line}: {failed}" if failed else line


def ingest_series(
    model: str,
    *,
    corpus: str,
    store: str | os.PathLike[str],
    revisions: str | Sequence[str] | None = None,
    steps: Mapping[str, int] | None = None,
    name: str | None = None,
    settings: Settings | None = None,
    resources: Resources | None = None,
    coactivation: Coactivation | None = None,
    dry_run: bool = False,
    progress: Callable[[], AbstractContextManager[Progress]] | None = None,
    tell: Callable[[Outcome], None] | None = None,
) -> SeriesReport:
    """Measure many revisions of a model, by training step, and record which there are.

    The revisions are recorded in the table ``checkpoints`` before the first is measured, so that one that is missing
    or fails is not forgotten. A revision that fails (a corrupt file, weights that are not numbers, no tokenizer) is
    told, and the others land; the same call later measures what is not there yet, and loads nothing else
    (see `ingest_model`). What is no revision's fault stops the job: an unknown corpus, a store that cannot be written,
    a layer that the first revision that loads does not have.

    Parameters
    ----------
    model
        Hub id, or a folder whose subfolders are checkpoints.
    corpus, store, name, settings, resources, coactivation
        As for `ingest_model`.
    revisions
        Shell-style patterns of the names of subfolders, or of branches and tags of the hub; None: those that `steps`
        names, or all.
    steps
        Training step by revision. It goes before the step that a name tells, and a revision that it names is attempted
        whether it is there or not. It corrects the list of checkpoints, but no run: a revision of which a run has
        another step, or none, fails.
    dry_run
        Whether to say what would be done instead: `tell` gets plans, and nothing is written.
    progress
        Gives where to report, for each checkpoint anew, such as `progress.show_progress`.
    tell
        Called with what became of each checkpoint as soon as it is known.

    Raises
    ------
    UnknownNameError
        If the store has no such corpus, or no revision matches.
    IngestError
        If the revisions cannot be listed, or the device is not there; the store is unchanged. If what is asked for
        serves no such model: the store holds its list of checkpoints alone.
    StoreError
        If the store cannot be read or written.
    """
    target, progress = Store(store), progress or _silently
    stored_name = Checkpoint(model, name=name).stored_name
    # Before anything is written: corpus and device must be there.
    StoredCorpus(target, corpus)
    resources = checked(resources, stored_name)
    patterns, steps = [revisions] if isinstance(revisions, str) else revisions, steps or {}
    chosen = choose_checkpoints(model, patterns, steps)
    held = HeldRuns(target)
    checkpoints = sorted(
        (each if each.revision in steps else _at_held_step(each, stored_name, held) for each in chosen),
        key=lambda each: each.place,
    )
    with progress() as shown:
        for note in _notes(checkpoints, steps):
            shown.note(note)
    if not dry_run:
        _record(checkpoints, stored_name, held, target)
    requests = [
        Request(
            Checkpoint(model, each.revision, name=name),
            corpus,
            settings or Settings(),
            steps.get(each.revision),
            each.commit,
        )
        for each in checkpoints
    ]
    return ingest_checkpoints(
        requests,
        store=target,
        resources=resources,
        coactivation=coactivation,
        dry_run=dry_run,
        progress=progress,
        tell=tell,
    )


def ingest_checkpoints(
    requests: Sequence[Request],
    *,
    store: Store,
    resources: Resources | None = None,
    coactivation: Coactivation | None = None,
    dry_run: bool = False,
    progress: Callable[[], AbstractContextManager[Progress]] | None = None,
    tell: Callable[[Outcome], None] | None = None,
) -> SeriesReport:
    """Measure checkpoints of one corpus one after another; parameters and errors are those of `ingest_series`."""
    corpus, held = StoredCorpus(store, requests[0].corpus), HeldRuns(store)
    resources = checked(resources, requests[0].checkpoint.stored_name)
    outcomes: list[Outcome] = []
    noted: set[str] = set()
    for request in requests:
        is_first = all(isinstance(each, Failure) for each in outcomes)
        with (progress or _silently)() as shown:
            told = _NotingOnce(shown, noted)
            try:
                outcome = _attempt(
                    request, corpus, store, held, resources, coactivation, told, dry_run=dry_run, is_first=is_first
                )
            except KeyboardInterrupt as error:
                error.add_note(f"{len(outcomes)} of {len(requests)} checkpoints are done")
                raise
        outcomes.append(outcome)
        if tell is not None:
            tell(outcome)
    return SeriesReport(tuple(outcomes))


def _attempt(
    request: Request,
    corpus: StoredCorpus,
    store: Store,
    held: HeldRuns,
    resources: Resources,
    coactivation: Coactivation | None,
    progress: Progress,
    *,
    dry_run: bool,
    is_first: bool,
) -> Outcome:
    """Measure one checkpoint, or say why not; until one has come through, what was asked for may be at fault."""
    started_at = datetime.datetime.now(datetime.UTC)
    is_its_own_fault = True
    try:
        request = held.with_step(request)
        report = held.report(request, corpus.sha256, coactivation)
        if report is not None:
            return report
        from .coactivations import adds_coactivations
        from .measurement import load_requested, on_device, prepare_loaded
        from .run import make_run

        resources = on_device(resources, request.checkpoint.stored_name)
        loaded = load_requested(request, corpus, resources)
        is_its_own_fault = not is_first
        work = prepare_loaded(request, loaded, corpus, store, resources, progress)
        adds = adds_coactivations(work, coactivation)
        is_its_own_fault = True
        if dry_run:
            return plan_measurement(work, coactivation, adds_coactivations=adds)
        return make_run(work, coactivation, progress, adds_coactivations=adds, started_at=started_at)
    except (IngestError, UnknownNameError) as error:
        if not is_its_own_fault:
            raise
        # Its text alone: the error would keep the loaded model in memory.
        return Failure(request.checkpoint.stored_revision, str(error))


class _NotingOnce:
    """Passes progress on, but a note only the first time: what is said of one checkpoint is often true of all."""

    def __init__(self, progress: Progress, noted: set[str]) -> None:
        self.phase = progress.phase
        self.advance = progress.advance
        self._progress, self._noted = progress, noted

    def note(self, text: str) -> None:
        """Pass on what is new."""
        if text not in self._noted:
            self._noted.add(text)
            self._progress.note(text)


def _at_held_step(checkpoint: ListedCheckpoint, model: str, held: HeldRuns) -> ListedCheckpoint:
    """Return a checkpoint at the step that the store holds of it, if it holds one."""
    step = held.step(model, checkpoint.revision)
    return checkpoint if step is None else replace(checkpoint, step=step)


def _record(checkpoints: Sequence[ListedCheckpoint], model: str, held: HeldRuns, store: Store) -> None:
    """Commit those checkpoints that the store does not list at their step, unless a run holds another."""
    new = [
        each
        for each in checkpoints
        if not held.lists(model, each.revision, each.step)
        and (each.step is None or held.refusal(model, each.revision, each.step) is None)
    ]
    if not new:
        return
    listed_at = datetime.datetime.now(datetime.UTC)
    columns = [
        {"model": model, "revision": each.revision, "step": each.step, "source": each.source, "listed_at": listed_at}
        for each in new
    ]
    # A step may be corrected, and corrected back: which list this is, by number, is part of the name. When is not: the
    # same command would not find what it was killed in.
    definition = {
        "model": model,
        "checkpoints": [[each.revision, each.step, each.source] for each in new],
        "n_lists": sum(commit.kind == "checkpoints" for commit in store.commits()),
    }
    with store.job(f"checkpoints-{identifier(definition)}", kind="checkpoints", resume=False) as job:
        rows = pa.Table.from_pylist(columns, schema=arrow_schema(table("checkpoints")))
        job.write("checkpoints", rows, model=model)
        job.commit()


def _notes(checkpoints: Sequence[ListedCheckpoint], asked: Mapping[str, int]) -> Iterator[str]:
    """Yield what looks wrong with a series."""
    by_step: dict[int, list[str]] = defaultdict(list)
    for each in checkpoints:
        if each.step is not None:
            by_step[each.step].append(each.revision)
    chosen = {each.revision for each in checkpoints}
    left_out = sorted((revision for revision in asked if revision not in chosen), key=lambda each: (asked[each], each))
    if left_out:
        yield f"not measured, though a step is given: {_listed(left_out)}; --revisions leaves them out"
    named = [each.revision for each in checkpoints if each.step is not None and each.revision not in asked]
    if asked and named:
        yield f"no step is given of {_listed(named)}: it is the one of the name, or that the store holds"
    unknown = [each.revision for each in checkpoints if each.step is None]
    if unknown:
        yield f"no step is known of {_listed(unknown)}: their names tell none; --steps can, before they are measured"
    for step, revisions in by_step.items():
        if len(revisions) > 1:
            yield f"step {step} is of several revisions: {_listed(revisions)}"
    for steps, rhythm in gaps(by_step):
        yield f"no checkpoint at step {_listed(steps)}, where steps are otherwise {rhythm}"


def _listed(names: Sequence[object], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more


def _silently() -> AbstractContextManager[Progress]:
    return nullcontext(SilentProgress())
