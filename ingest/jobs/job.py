"""The ingestion of one checkpoint: what the store holds is not made again, and what is asked wrongly is told at once.

The libraries of models, which take seconds to load, are imported when there is something to measure.
"""

import datetime
import os

from ...progress import Progress, SilentProgress
from ...schema.store import Store
from ..corpora.stored import StoredCorpus
from ..models.checkpoint import Checkpoint
from .known_runs import HeldRuns
from .request import Request
from .settings import Coactivation, Resources, Settings, checked
from .summary import IngestReport

__all__ = ["IngestReport", "ingest_model"]


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
    progress: Progress | None = None,
) -> IngestReport:
    """Measure every neuron of a model on a corpus and store what it responds to.

    Measuring the same again changes nothing and is quick: the run's id is a digest of all that defines it. Where the
    store holds a run of the same files (their names, sizes and times of change), corpus and settings, nothing is even
    loaded; files altered while they keep size and time go unnoticed. A job that was killed goes on where it was: a
    hundredth of the forward pass is lost at most. Coactivations are no part of the run: asked for later, they are added
    to it, and the model runs for them alone.

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
        What co-activation of neurons to store beside the run; none if None.
    progress
        Where to report.

    Raises
    ------
    UnknownNameError
        If the store has no such corpus.
    IngestError
        If the model or the corpus cannot be measured as asked; the store is unchanged.
    StoreError
        If the store cannot be written.
    """
    started_at = datetime.datetime.now(datetime.UTC)
    progress, target = progress or SilentProgress(), Store(store)
    stored = StoredCorpus(target, corpus)
    held = HeldRuns(target)
    request = held.with_step(Request(Checkpoint(model, revision, random_init, name), corpus, settings or Settings()))
    resources = checked(resources, request.checkpoint.stored_name)
    report = held.report(request, stored.sha256, coactivation)
    if report is not None:
        return report
    from .coactivations import adds_coactivations
    from .measurement import prepare
    from .run import make_run

    work = prepare(request, stored, target, resources, progress)
    adds = adds_coactivations(work, coactivation)
    return make_run(work, coactivation, progress, adds_coactivations=adds, started_at=started_at)
