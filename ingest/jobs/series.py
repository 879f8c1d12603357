"""Many checkpoints as one job, in which the failure of one checkpoint does not stop the others."""

import datetime
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from ...engines.serial import run_serially
from ...errors import IngestError, UnknownNameError
from ...progress import Progress, SilentProgress
from ...schema.store import Store
from ...schema.vocabulary import Addition
from ..corpora.stored import StoredCorpus
from ..models.checkpoint import Checkpoint
from .known_runs import KnownRuns
from .reports import Failure, Outcome, SeriesReport
from .request import Ingestion, Request
from .revisions import choose_checkpoints, oddities, record_checkpoints
from .settings import Coactivation, Controls, Resources, Settings

Shown = Callable[[], AbstractContextManager[Progress]]


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
    controls: Controls | None = None,
    additions: Collection[Addition] = (),
    dry_run: bool = False,
    progress: Shown | None = None,
    tell: Callable[[Outcome], None] | None = None,
) -> SeriesReport:
    """Measure many revisions of a model, by training step, and record which there are.

    The revisions are recorded in the table ``checkpoints`` before the first is measured, so that one that is missing
    or fails is not forgotten. A revision that fails (a corrupt file, weights that are not numbers, no tokenizer) is
    reported, and the others are measured; the same call later measures what is still missing, and loads nothing else
    (see `ingest_model`). What is no revision's fault stops the job: an unknown corpus, a store that cannot be written,
    a layer that the first revision that loads does not have.

    Parameters
    ----------
    model
        Hub id, or a folder whose subfolders are checkpoints.
    corpus, store, name, settings, resources, coactivation, controls, additions
        As for `ingest_model`.
    revisions
        Shell-style patterns of the names of subfolders, or of branches and tags of the hub; None: those that `steps`
        names, or all.
    steps
        Training step by revision, in place of the step in a name. A revision that it names is attempted whether it is
        there or not. It corrects the list of checkpoints, but no run: a revision of which a run has another step, or
        none, fails.
    dry_run
        Whether to return plans of what would be done and write nothing.
    progress
        Opens where to report, once for each checkpoint, such as `progress.show_progress`.
    tell
        Called with what became of each checkpoint as soon as it is known.

    Raises
    ------
    UnknownNameError
        If the store has no such corpus, or no revision matches.
    IngestError
        If the revisions cannot be listed, or the device is not there; the store is unchanged. If the request does not
        fit the model at all; the store then holds the list of checkpoints alone.
    StoreError
        If the store cannot be read or written.

    Examples
    --------
    >>> report = neuronlake.ingest_series("tiny-series", corpus="animals", store="neuronlake-store", revisions="step*")
    >>> [outcome.revision for outcome in report.outcomes]
    ['step1', 'step2', 'step4']
    """
    target, settings, progress, steps = Store(store), settings or Settings(), progress or _silently, steps or {}
    ingestion = Ingestion(
        target,
        StoredCorpus(target, corpus),
        resources or Resources(),
        coactivation,
        controls,
        dry_run,
        tuple(additions),
    )
    stored_name = Checkpoint(model, name=name).stored_name
    ingestion.resources.check_device(stored_name)
    known_runs = KnownRuns(target)
    checkpoints = []
    for checkpoint in choose_checkpoints(model, [revisions] if isinstance(revisions, str) else revisions, steps):
        known = None if checkpoint.revision in steps else known_runs.step(stored_name, checkpoint.revision)
        checkpoints.append(checkpoint if known is None else replace(checkpoint, step=known))
    checkpoints.sort(key=lambda checkpoint: checkpoint.place)
    with progress() as shown:
        for note in oddities(checkpoints, steps):
            shown.note(note)
    requests = [
        Request(Checkpoint(model, entry.revision, name=name), corpus, settings, steps.get(entry.revision), entry.commit)
        for entry in checkpoints
    ]
    if not dry_run:  # after the requests, which refuse names that no store can hold
        record_checkpoints(checkpoints, stored_name, known_runs, target)
    return _ingest(requests, ingestion, progress, tell)


def ingest_checkpoints(
    checkpoints: Sequence[Checkpoint],
    *,
    corpus: str,
    store: str | os.PathLike[str],
    settings: Settings | None = None,
    resources: Resources | None = None,
    coactivation: Coactivation | None = None,
    controls: Controls | None = None,
    additions: Collection[Addition] = (),
    dry_run: bool = False,
    progress: Shown | None = None,
    tell: Callable[[Outcome], None] | None = None,
) -> SeriesReport:
    """Measure some checkpoints, such as revisions and random initialisations, one after another.

    Parameters
    ----------
    checkpoints
        At least one; each is attempted whether it is there or not.
    corpus, store, settings, resources, coactivation, controls, additions, dry_run, progress, tell
        As for `ingest_series`, whose errors are raised here too.

    Examples
    --------
    >>> checkpoints = [neuronlake.Checkpoint("tiny-bert", random_init=seed) for seed in (0, 1)]
    >>> report = neuronlake.ingest_checkpoints(checkpoints, corpus="animals", store="neuronlake-store")
    >>> [outcome.revision for outcome in report.outcomes]
    ['random-0', 'random-1']
    """
    if not checkpoints:
        raise IngestError("no checkpoint is given; at least one is needed")
    target = Store(store)
    ingestion = Ingestion(
        target,
        StoredCorpus(target, corpus),
        resources or Resources(),
        coactivation,
        controls,
        dry_run,
        tuple(additions),
    )
    ingestion.resources.check_device(checkpoints[0].stored_name)
    requests = [Request(checkpoint, corpus, settings or Settings()) for checkpoint in checkpoints]
    return _ingest(requests, ingestion, progress or _silently, tell)


def _ingest(
    requests: Sequence[Request], ingestion: Ingestion, progress: Shown, tell: Callable[[Outcome], None] | None
) -> SeriesReport:
    """Measure requests one after another."""
    known_runs, outcomes, notes = KnownRuns(ingestion.store), list[Outcome](), set[str]()

    def ingest(request: Request) -> Outcome:
        is_first = all(isinstance(outcome, Failure) for outcome in outcomes)
        with progress() as shown:
            return _attempt(request, ingestion, known_runs, _NotingOnce(shown, notes), is_first=is_first)

    for outcome in run_serially(requests, ingest, unit="checkpoints"):
        outcomes.append(outcome)
        if tell is not None:
            tell(outcome)
    return SeriesReport(tuple(outcomes))


def _attempt(
    request: Request, ingestion: Ingestion, known_runs: KnownRuns, progress: Progress, *, is_first: bool
) -> Outcome:
    """Measure one checkpoint, or say why not; until one has come through, the request itself may be at fault."""
    started_at = datetime.datetime.now(datetime.UTC)
    may_fail_alone = True
    try:
        request = known_runs.with_step(request)
        if report := known_runs.report(request, ingestion):
            return report
        from .measurement import load_requested, prepare
        from .run import make_run, plan_run

        model = load_requested(request, ingestion)
        may_fail_alone = not is_first
        measurement = prepare(request, model, ingestion, progress)
        may_fail_alone = True
        return plan_run(measurement) if ingestion.dry_run else make_run(measurement, progress, started_at)
    except (IngestError, UnknownNameError) as error:
        if not may_fail_alone:
            raise
        # Its text alone: the error would keep the loaded model in memory.
        return Failure(request.checkpoint.stored_revision, str(error))


class _NotingOnce:
    """Passes progress on, but a note only the first time: what is true of one checkpoint is often true of all."""

    def __init__(self, progress: Progress, noted: set[str]) -> None:
        self.phase = progress.phase
        self.advance = progress.advance
        self._progress, self._noted = progress, noted

    def note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._progress.note(text)


def _silently() -> AbstractContextManager[Progress]:
    return nullcontext(SilentProgress())
