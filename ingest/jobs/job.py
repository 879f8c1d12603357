"""The ingestion of one checkpoint: a run that the store holds is not made again.

The libraries of models, which take seconds to load, are imported when there is something to measure.
"""

import datetime
import os
import time
from collections.abc import Collection
from typing import Literal, Required, TypedDict, Unpack, overload

from ...progress import Progress, SilentProgress
from ...schema.store import Store
from ...schema.vocabulary import Addition
from ..corpora.stored import StoredCorpus
from ..models.checkpoint import Checkpoint
from .known_runs import KnownRuns
from .reports import IngestPlan, IngestReport
from .settings import Coactivation, Controls, Ingestion, Request, Resources, Settings


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
    model
        Hub id, folder or ``.gguf`` file of any transformers text model.
    corpus
        Name of a corpus in the store.
    store
        The store's folder.
    revision
        Branch, tag or commit on the hub, or subfolder of a local folder.
    random_init
        Seed of a random initialisation to measure in place of the checkpoint's weights.
    name
        Name to store the model under; the hub id or folder name if None.
    settings
        What defines the measurement; defaults of `Settings` if None.
    resources
        What the job may use; defaults of `Resources` if None.
    coactivation
        Which co-activation of neurons to store beside the run; none if None.
    controls
        Which control functions to score beside the run's own; none if None.
    additions
        ``highlights``: also store on which tokens of their top texts the top neurons of each function fire.
        ``vocabulary``: also store which tokens of the vocabulary every neuron's weights write and read.
    dry_run
        Whether to return a plan of what would be done and write nothing. The model is loaded, the corpus tokenized, and
        a few batches are timed.
    progress
        Where to report.

    Returns
    -------
    IngestReport or IngestPlan
        What was done; in a dry run what would be done.

    Raises
    ------
    UnknownNameError
        If the store has no such corpus.
    IngestError
        If the model or the corpus cannot be measured as asked; the store is unchanged.
    StoreError
        If the store cannot be written.

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
    target, resources = Store(store), resources or Resources()
    ingestion = Ingestion(
        target, StoredCorpus(target, corpus), resources, coactivation, controls, dry_run, tuple(additions)
    )
    known_runs = KnownRuns(target)
    checkpoint = Checkpoint(model, revision, random_init, name)
    request = known_runs.with_step(Request(checkpoint, corpus, settings or Settings()))
    resources.check_device(checkpoint.stored_name)
    if not dry_run and (report := known_runs.report(request, ingestion)):
        return report
    from .measurement import load_requested, prepare
    from .plan import plan_run
    from .run import make_run

    progress = progress or SilentProgress()
    measurement = prepare(request, load_requested(request, ingestion), ingestion, progress)
    if dry_run:
        return plan_run(measurement, prepared_s=time.process_time() - began)
    return make_run(measurement, progress, started_at)
