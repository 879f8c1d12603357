"""The ingestion of one checkpoint, or of many as one job: a run that the store holds is not made again.

The libraries of models, which take seconds to load, are imported when there is something to measure.
"""

import datetime
import functools
import itertools
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Required, TypedDict, Unpack, overload

from ...engines.engine import Engine, SerialEngine, Work, shard_of
from ...errors import BeingWrittenError, IngestError, NeuronlakeError, UnknownNameError
from ...progress import Progress, Shown, SilentProgress, silently
from ...schema.job import Job
from ...schema.store import Store
from ...schema.vocabulary import Addition, JobKind
from ..corpora.stored import StoredCorpus
from ..models.checkpoint import Checkpoint
from .reports import Failure, IngestPlan, IngestReport, Outcome, SeriesReport
from .revisions import KnownRuns, choose_checkpoints, oddities, record_checkpoints
from .settings import Coactivation, Controls, Request, Resources, Settings

_PATIENCE_S = 60


class _Options(TypedDict, total=False):
    """The arguments of `ingest_model` after the first, for type checkers."""

    corpus: Required[str]
    store: Required[str | os.PathLike[str]]
    revision: str | None
    random_init: int | None
    name: str | None
    settings: Settings | None
    resources: Resources | None
    coactivation: Coactivation | None
    controls: Controls | None
    additions: Collection[Addition]
    progress: Progress | None


@overload
def ingest_model(model: str, *, dry_run: Literal[False] = False, **options: Unpack[_Options]) -> IngestReport: ...
@overload
def ingest_model(model: str, *, dry_run: Literal[True], **options: Unpack[_Options]) -> IngestPlan: ...
def ingest_model(
    model: str,
    *,
    corpus: str,
    store: str | os.PathLike[str],
    revision: str | None = None,
    random_init: int | None = None,
    name: str | None = None,
    settings: Settings | None = None,
    resources: Resources | None = None,
    coactivation: Coactivation | None = None,
    controls: Controls | None = None,
    additions: Collection[Addition] = (),
    dry_run: bool = False,
    progress: Progress | None = None,
) -> IngestReport | IngestPlan:
    """Measure every neuron of a model on a corpus and store what it responds to.

    Measuring the same again changes nothing and is quick: the run's id is a digest of all that defines it. Where the
    store holds a run of the same files (their names, sizes and times of change), corpus and settings, the model is not
    even loaded; files altered while they keep size and time go unnoticed. A job that was killed continues where it
    was, less a hundredth of the forward pass at most. Coactivations, control functions and additions are no part of the
    run: asked for later, they are added to it, and the model runs for them alone.

    Parameters
    ----------
    model, revision, random_init, name
        The checkpoint of any transformers text model, and the name to store it under, as in `Checkpoint`.
    corpus, store
        Name of a corpus, and the folder of the store that holds it.
    settings, resources, progress
        What defines the measurement, and what the job may use, their defaults if None; and where to report.
    coactivation, controls
        Which co-activation of neurons to store, and which control functions to score, beside the run; none if None.
    additions
        ``highlights``: also store on which tokens of their top texts the top neurons of each function fire.
        ``vocabulary``: also store which tokens of the vocabulary every neuron's weights write and read.
    dry_run
        Whether to return a plan of what would be done and write nothing. The model is loaded, the corpus tokenized, and
        a few batches are timed.

    Returns
    -------
    IngestReport or IngestPlan
        What was done; in a dry run what would be done.

    Raises
    ------
    UnknownNameError, StoreError
        If the store has no such corpus; if it cannot be written.
    IngestError
        If the model or the corpus cannot be measured as asked; the store is unchanged.

    Examples
    --------
    >>> settings = neuronlake.Settings(pooling="mean")
    >>> plan = neuronlake.ingest_model(
    ...     "tiny-bert", corpus="animals", store="neuronlake-store", settings=settings, dry_run=True
    ... )
    >>> plan.n_neurons, plan.n_rows["neuron_functions"]
    (128, 128)
    >>> neuronlake.ingest_model("tiny-bert", corpus="animals", store="neuronlake-store", settings=settings).is_new
    True
    """
    started_at, began = datetime.datetime.now(datetime.UTC), time.process_time()
    checkpoint, known_runs = Checkpoint(model, revision, random_init, name), KnownRuns(Store(store))
    beside = settings or Settings(), resources or Resources(), coactivation, controls, tuple(additions), dry_run
    request = known_runs.with_step(Request(checkpoint, StoredCorpus(Store(store), corpus), *beside))
    request.resources.check_device(checkpoint.stored_name)
    if not dry_run and (report := known_runs.report(request)):
        return report
    from .measurement import load_requested, prepare
    from .plan import plan_run
    from .run import make_run

    progress = progress or SilentProgress()
    measurement = prepare(request, load_requested(request), progress)
    if dry_run:
        return plan_run(measurement, prepared_s=time.process_time() - began)
    return make_run(measurement, progress, started_at)


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
    store, name, settings, resources, coactivation, controls, additions, dry_run
        As for `ingest_model`.
    revisions
        Shell-style patterns of the names of subfolders, or of branches and tags of the hub; None: those that `steps`
        names, or all.
    steps
        Training step by revision, in place of the step in a name. A revision that it names is attempted whether it is
        there or not. It corrects the list of checkpoints, but no run: a revision of which a run has another step, or
        none, fails.
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
    StoreError, EngineError
        If the store cannot be read or written; if the shard is none, or the engine lacks what it needs.

    Examples
    --------
    >>> report = neuronlake.ingest_series("tiny-series", corpus="animals", store="neuronlake-store", revisions="step*")
    >>> [outcome.revision for outcome in report.outcomes]
    ['step1', 'step2', 'step4']
    """
    target, progress, steps = Store(store), progress or silently, steps or {}
    stored_name = Checkpoint(model, name=name).stored_name
    beside = settings or Settings(), resources or Resources(), coactivation, controls, tuple(additions), dry_run
    corpora, known_runs = _corpora(corpus, target, beside[1], engine, stored_name), KnownRuns(target)
    patterns = [revisions] if isinstance(revisions, str) else revisions
    checkpoints = choose_checkpoints(model, patterns, steps, functools.partial(known_runs.step, stored_name))
    requests = []
    for listed, stored in itertools.product(checkpoints, corpora):
        checkpoint = Checkpoint(model, listed.revision, name=name)
        requests.append(Request(checkpoint, stored, *beside, steps.get(listed.revision), listed.commit))
    if shard_of([True], shard):  # the first shard alone, so that shards that begin at once do not all do it
        with progress() as shown:
            for note in oddities(checkpoints, steps):
                shown.note(note)
        if not dry_run:  # after the requests, which refuse names that no store can hold
            record_checkpoints(checkpoints, stored_name, known_runs)
    return _ingest(shard_of(requests, shard), target, engine, progress, tell)


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
    beside = settings or Settings(), resources or Resources(), coactivation, controls, tuple(additions), dry_run
    corpora = _corpora(corpus, Store(store), beside[1], engine, checkpoints[0].stored_name)
    requests = [Request(checkpoint, stored, *beside) for checkpoint, stored in itertools.product(checkpoints, corpora)]
    return _ingest(shard_of(requests, shard), Store(store), engine, progress or silently, tell)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What became of a request: its outcome, the jobs that wait for their commit, and why it failed."""

    outcome: Outcome
    staged: tuple[tuple[str, JobKind], ...] = ()
    error: NeuronlakeError | None = None  # that may be the fault of the request, so that every checkpoint has it


def _corpora(
    corpus: str | Sequence[str], store: Store, resources: Resources, engine: Engine | None, label: str
) -> list[StoredCorpus]:
    """Return the corpora that are named; check the device, unless others than we need it."""
    names = dict.fromkeys([corpus] if isinstance(corpus, str) else corpus)
    if not names:
        raise IngestError("no corpus is given; at least one is needed")
    corpora = [StoredCorpus(store, name) for name in names]
    if engine is None or isinstance(engine, SerialEngine):
        resources.check_device(label)
    return corpora


def _ingest(
    requests: Sequence[Request],
    store: Store,
    engine: Engine | None,
    progress: Shown,
    tell: Callable[[Outcome], None] | None,
) -> SeriesReport:
    """Report what the store holds of some requests, have the engine do the rest, and commit what it stages."""
    known_runs, engine = KnownRuns(store), engine or SerialEngine()
    outcomes: dict[int, Outcome] = {}
    has_corpora = len({request.corpus.name for request in requests}) > 1

    def reported(place: int, outcome: Outcome) -> None:
        if has_corpora and isinstance(outcome, Failure):
            outcome = replace(outcome, reason=f"on corpus {requests[place].corpus.name}: {outcome.reason}")
        outcomes[place] = outcome
        if tell is not None:
            tell(outcome)

    new: dict[int, Request] = {}
    for place, asked in enumerate(requests):
        try:
            request = known_runs.with_step(asked)
            if report := known_runs.report(request):
                reported(place, report)
            else:
                new[place] = request
        except (IngestError, UnknownNameError) as error:
            reported(place, _failure(asked, str(error)))
    places = list(new)
    work = Work(
        tasks=tuple(new.values()),
        do=functools.partial(_attempt, commits=isinstance(engine, SerialEngine)),
        unit="checkpoints",
        label=lambda request: f"{request.checkpoint.stored_revision} on {request.corpus.name}",
        lost=lambda request, reason: _Attempt(_failure(request, reason)),
        device=requests[0].resources.device if requests else "cpu",
    )
    for number, attempt in engine.run(work, progress):
        # Until one has come through, the request itself may be at fault.
        if attempt.error is not None and all(isinstance(outcome, Failure) for outcome in outcomes.values()):
            raise attempt.error
        for name, kind in attempt.staged:  # committed now unless it is
            store.commit_staged(name, kind=kind)
        reported(places[number], attempt.outcome)
    return SeriesReport(tuple(outcomes[place] for place in range(len(requests))))


def _attempt(request: Request, progress: Progress, *, commits: bool) -> _Attempt:
    """Measure and stage one checkpoint, commit it if that is asked for, or say why not."""
    started_at, began = datetime.datetime.now(datetime.UTC), time.process_time()
    may_be_of_request = False
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

        model = load_requested(request)
        may_be_of_request = True
        measurement = prepare(request, model, progress)
        may_be_of_request = False
        if request.dry_run:
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
