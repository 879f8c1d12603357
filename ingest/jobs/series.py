"""Many checkpoints, on one corpus or several, as one job, in which the failure of one does not stop the others."""

import datetime
import functools
import itertools
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ...engines.engine import Engine, SerialEngine, Work, shard_of
from ...errors import BeingWrittenError, IngestError, NeuronlakeError, UnknownNameError
from ...progress import Progress, Shown, silently
from ...schema.job import Job
from ...schema.store import Store
from ...schema.vocabulary import Addition, JobKind
from ..corpora.stored import StoredCorpus
from ..models.checkpoint import Checkpoint
from .known_runs import KnownRuns
from .reports import Failure, Outcome, SeriesReport
from .revisions import choose_checkpoints, oddities, record_checkpoints
from .settings import Coactivation, Controls, Ingestion, Request, Resources, Settings

_PATIENCE_S = 60


def ingest_series(
    model: str,
    *,
    corpus: str | Sequence[str],
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
    engine: Engine | None = None,
    shard: str | None = None,
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
    corpus
        Name of a corpus in the store, or several: each checkpoint is measured on each.
    store, name, settings, resources, coactivation, controls, additions
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
    engine
        Where checkpoints are measured: in this process one after another if None, or by `RayEngine` in several.
    shard
        Which of the checkpoints on corpora to measure: ``3/10`` is the third of ten shares, each for a process or a
        machine of its own; None for all. The first share records the list of checkpoints.
    progress
        Opens where to report, once for each task of an engine, such as `progress.show_progress`.
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
    EngineError
        If the shard is none, or the engine lacks what it needs.

    Examples
    --------
    >>> report = neuronlake.ingest_series("tiny-series", corpus="animals", store="neuronlake-store", revisions="step*")
    >>> [outcome.revision for outcome in report.outcomes]
    ['step1', 'step2', 'step4']
    """
    target, settings, progress, steps = Store(store), settings or Settings(), progress or silently, steps or {}
    stored_name = Checkpoint(model, name=name).stored_name
    asked = (resources or Resources(), coactivation, controls, dry_run, tuple(additions))
    ingestions = _on_each(corpus, target, engine, stored_name, *asked)
    known_runs = KnownRuns(target)
    checkpoints = []
    for listed in choose_checkpoints(model, [revisions] if isinstance(revisions, str) else revisions, steps):
        known = None if listed.revision in steps else known_runs.step(stored_name, listed.revision)
        checkpoints.append(listed if known is None else replace(listed, step=known))
    checkpoints.sort(key=lambda listed: listed.place)
    tasks = []
    for listed, ingestion in itertools.product(checkpoints, ingestions):
        checkpoint, step = Checkpoint(model, listed.revision, name=name), steps.get(listed.revision)
        tasks.append((Request(checkpoint, ingestion.corpus.name, settings, step, listed.commit), ingestion))
    if shard_of([True], shard):  # the first shard alone, so that shards that begin at once do not all do it
        with progress() as shown:
            for note in oddities(checkpoints, steps):
                shown.note(note)
        if not dry_run:  # after the requests, which refuse names that no store can hold
            record_checkpoints(checkpoints, stored_name, known_runs, target)
    return _ingest(shard_of(tasks, shard), target, engine, progress, tell)


def ingest_checkpoints(
    checkpoints: Sequence[Checkpoint],
    *,
    corpus: str | Sequence[str],
    store: str | os.PathLike[str],
    settings: Settings | None = None,
    resources: Resources | None = None,
    coactivation: Coactivation | None = None,
    controls: Controls | None = None,
    additions: Collection[Addition] = (),
    dry_run: bool = False,
    engine: Engine | None = None,
    shard: str | None = None,
    progress: Shown | None = None,
    tell: Callable[[Outcome], None] | None = None,
) -> SeriesReport:
    """Measure some checkpoints, such as revisions and random initialisations.

    Parameters
    ----------
    checkpoints
        At least one; each is attempted whether it is there or not.
    corpus, store, settings, resources, coactivation, controls, additions, dry_run, engine, shard, progress, tell
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
    asked = (resources or Resources(), coactivation, controls, dry_run, tuple(additions))
    ingestions = _on_each(corpus, target, engine, checkpoints[0].stored_name, *asked)
    tasks = [
        (Request(checkpoint, ingestion.corpus.name, settings or Settings()), ingestion)
        for checkpoint, ingestion in itertools.product(checkpoints, ingestions)
    ]
    return _ingest(shard_of(tasks, shard), target, engine, progress or silently, tell)


_Task = tuple[Request, Ingestion]  # one checkpoint to measure on one corpus


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What became of a task: its outcome, the jobs that wait for their commit, and why it failed."""

    outcome: Outcome
    staged: tuple[tuple[str, JobKind], ...] = ()
    error: NeuronlakeError | None = None  # that may be the fault of the request, so that every checkpoint has it


def _on_each(
    corpus: str | Sequence[str],
    store: Store,
    engine: Engine | None,
    label: str,
    resources: Resources,
    *asked: *tuple[Coactivation | None, Controls | None, bool, tuple[Addition, ...]],
) -> list[Ingestion]:
    """Return what is asked on each corpus that is named; check the device, unless others than we need it."""
    names = dict.fromkeys([corpus] if isinstance(corpus, str) else corpus)
    if not names:
        raise IngestError("no corpus is given; at least one is needed")
    ingestions = [Ingestion(store, StoredCorpus(store, name), resources, *asked) for name in names]
    if engine is None or isinstance(engine, SerialEngine):
        resources.check_device(label)
    return ingestions


def _ingest(
    tasks: Sequence[_Task], store: Store, engine: Engine | None, progress: Shown, tell: Callable[[Outcome], None] | None
) -> SeriesReport:
    """Report what the store holds of some tasks, have the engine do the rest, and commit what it stages."""
    known_runs, engine = KnownRuns(store), engine or SerialEngine()
    outcomes: dict[int, Outcome] = {}
    has_corpora = len({request.corpus for request, _ in tasks}) > 1

    def reported(place: int, outcome: Outcome) -> None:
        if has_corpora and isinstance(outcome, Failure):
            outcome = replace(outcome, reason=f"on corpus {tasks[place][0].corpus}: {outcome.reason}")
        outcomes[place] = outcome
        if tell is not None:
            tell(outcome)

    new: dict[int, _Task] = {}
    for place, (asked, ingestion) in enumerate(tasks):
        try:
            request = known_runs.with_step(asked)
            if report := known_runs.report(request, ingestion):
                reported(place, report)
            else:
                new[place] = request, ingestion
        except (IngestError, UnknownNameError) as error:
            reported(place, _failure(asked, str(error)))
    places = list(new)
    work = Work(
        tasks=tuple(new.values()),
        do=functools.partial(_attempt, commits=isinstance(engine, SerialEngine)),
        unit="checkpoints",
        label=lambda task: f"{task[0].checkpoint.stored_revision} on {task[0].corpus}",
        lost=lambda task, reason: _Attempt(_failure(task[0], reason)),
        device=tasks[0][1].resources.device if tasks else "cpu",
    )
    for number, attempt in engine.run(work, progress):
        # Until one has come through, the request itself may be at fault.
        if attempt.error is not None and all(isinstance(outcome, Failure) for outcome in outcomes.values()):
            raise attempt.error
        for name, kind in attempt.staged:  # committed now unless it is
            store.commit_staged(name, kind=kind)
        reported(places[number], attempt.outcome)
    return SeriesReport(tuple(outcomes[place] for place in range(len(tasks))))


def _attempt(task: _Task, progress: Progress, *, commits: bool) -> _Attempt:
    """Measure and stage one checkpoint, commit it if that is asked for, or say why not."""
    started_at, began = datetime.datetime.now(datetime.UTC), time.process_time()
    (request, ingestion), may_be_of_request = task, False
    staged: list[tuple[str, JobKind]] = []  # also where an addition then fails

    def finish(job: Job) -> None:
        if commits:
            job.commit()
        else:
            staged.append((job.name, job.kind))

    try:
        from .measurement import load_requested, prepare
        from .plan import plan_run
        from .run import make_run

        model = load_requested(request, ingestion)
        may_be_of_request = True
        measurement = prepare(request, model, ingestion, progress)
        may_be_of_request = False
        if ingestion.dry_run:
            return _Attempt(plan_run(measurement, prepared_s=time.process_time() - began))
        patience = 0 if commits else _PATIENCE_S
        while True:
            try:
                return _Attempt(make_run(measurement, progress, started_at, finish=finish), tuple(staged))
            except BeingWrittenError:  # the workers of a process that was killed run until they are found and ended
                if not patience:
                    raise
                patience -= 1
                time.sleep(1)
    except (IngestError, UnknownNameError) as error:
        # With its traceback it would keep the loaded model in memory.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return _Attempt(_failure(request, str(error)), tuple(staged), error if may_be_of_request else None)


def _failure(request: Request, reason: str) -> Failure:
    return Failure(request.checkpoint.stored_revision, reason)
