"""The study: ablate the neurons of one source after the other, and read out all functions each time."""

import datetime
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Required, TypedDict, Unpack, overload

from ...ingest.models.checkpoint import Checkpoint
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from .request import find_request
from .settings import PerturbationSettings

if TYPE_CHECKING:
    from .preparation import Study


@dataclass(frozen=True, slots=True)
class PerturbationReport:
    """What a study did.

    Parameters
    ----------
    perturbation_id, model, revision
        Keys of the study.
    is_new
        False if the store already held the study, so that nothing was done.
    n_sources, n_targets
        Number of functions whose neurons were ablated, and of functions read out.
    n_cells, n_cells_reused
        Number of passes over the texts, and of those that an earlier attempt or study had made.
    n_instances, n_texts
        Number of instances and texts read out.
    cell_s, duration_s
        Wall time of a pass and of all, in seconds; `cell_s` is None if nothing was done.
    """

    perturbation_id: str
    model: str
    revision: str
    is_new: bool
    n_sources: int
    n_targets: int
    n_cells: int
    n_cells_reused: int
    n_instances: int
    n_texts: int
    cell_s: float | None
    duration_s: float

    def describe(self) -> str:
        """Return the report as one line."""
        line = (
            f"perturbation {self.perturbation_id}: {self.model} {self.revision}, {self.n_sources:,} sources x "
            f"{self.n_targets:,} targets over {self.n_instances:,} instances of {self.n_texts:,} texts"
        )
        if not self.is_new:
            return f"{line}; already in the store, nothing done"
        line += f", {self.n_cells:,} cells"
        if self.n_cells_reused:
            line += f" ({self.n_cells_reused:,} known)"
        if self.cell_s is not None:
            line += f" at {self.cell_s:.2f} s"
        return f"{line}, {self.duration_s:.1f} s"


@dataclass(frozen=True, slots=True)
class PerturbationPlan:
    """What a study would do.

    Parameters
    ----------
    perturbation_id, is_new, n_sources, n_targets, n_instances, n_texts
        As in `PerturbationReport`.
    n_neurons
        Number of neurons in the studied layers.
    n_cells, n_cells_known
        Number of passes over the texts, by selection, and of those that earlier studies have made.
    cell_s
        Wall time of a pass, in seconds, measured on the model as it is.
    """

    perturbation_id: str
    is_new: bool
    n_sources: int
    n_targets: int
    n_neurons: int
    n_instances: int
    n_texts: int
    n_cells: Mapping[str, int]
    n_cells_known: int
    cell_s: float

    def describe(self) -> str:
        """Return the plan as a few lines."""
        n_cells = sum(self.n_cells.values())
        by_selection = ", ".join(f"{n:,} {selection}" for selection, n in self.n_cells.items())
        status = "would be made" if self.is_new else "is already in the store: nothing would be done"
        left = n_cells - self.n_cells_known
        return "\n".join(
            [
                f"perturbation {self.perturbation_id} {status}",
                f"perturbed  neurons of {self.n_sources:,} sources, of {self.n_neurons:,} in the layers studied",
                f"read out   {self.n_targets:,} functions on {self.n_instances:,} instances of {self.n_texts:,} texts",
                f"cells      {n_cells:,} ({by_selection}), {self.n_cells_known:,} of them known",
                f"time       {self.cell_s:.2f} s a cell, about {left * self.cell_s:,.0f} s on this machine",
            ]
        )


class _Arguments(TypedDict, total=False):
    """What `study_perturbation` takes whether or not the run is dry."""

    store: Required[str | os.PathLike[str]]
    settings: Required[PerturbationSettings]
    run: str | None
    corpus: str | None
    revision: str | None
    random_init: int | None
    name: str | None
    device: str
    progress: Progress | None


@overload
def study_perturbation(
    model: str, *, dry_run: Literal[False] = False, **arguments: Unpack[_Arguments]
) -> PerturbationReport: ...
@overload
def study_perturbation(model: str, *, dry_run: Literal[True], **arguments: Unpack[_Arguments]) -> PerturbationPlan: ...
def study_perturbation(
    model: str,
    *,
    store: str | os.PathLike[str],
    settings: PerturbationSettings,
    run: str | None = None,
    corpus: str | None = None,
    revision: str | None = None,
    random_init: int | None = None,
    name: str | None = None,
    device: str = "auto",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PerturbationReport | PerturbationPlan:
    """Ablate the neurons of each source and of its controls, and store the effect on every function.

    Neurons are selected by their scores on half a of the texts, and the readout is fitted there on the model as it is;
    everything is read on half b. A study that was interrupted continues where it stopped. Passes over the texts that an
    earlier study of this store has made, with the same version, are not repeated.

    Parameters
    ----------
    model
        Hub id, folder or ``.gguf`` file.
    store, settings
        The store's folder, and the settings of the study.
    run
        Id of the run whose scores select neurons, or its beginning. None: the only run of the model.
    corpus
        Corpus to read out. None: the run's.
    revision, random_init, name
        The checkpoint, as in `ingest_model`.
    device
        Torch device; ``auto`` is a GPU where there is one.
    dry_run
        Return what would be done, and write nothing. The model is loaded, the readout fitted, and the model read out
        once as it is.
    progress
        Where to report.

    Returns
    -------
    report
        What was done, or of a dry run what would be done.

    Raises
    ------
    UnknownNameError
        If there is no such run, partition, corpus, family or function, or several runs where one was meant.
    AnalysisError
        If the run or the partition does not fit the model or the study, if no source has enough neurons, or if an
        ablation leaves losses that are not finite.
    IngestError
        If the model cannot be loaded or lacks the head that a readout needs.
    QueryError
        If the query of the settings is wrong.
    StoreError
        If the store cannot be read or written.

    Examples
    --------
    >>> settings = neuronlake.PerturbationSettings(is_top=True, doses=(0.1,), n_seeds=2, n_bootstrap=10)
    >>> report = neuronlake.study_perturbation("tiny-bert", store="neuronlake-store", settings=settings)
    >>> report.n_sources, report.n_targets
    (1, 1)
    """
    started_at = datetime.datetime.now(datetime.UTC)
    progress = progress or SilentProgress()
    with Database(store) as database:
        checkpoint = Checkpoint(model, revision, random_init, name)
        request = find_request(database, checkpoint, settings, run=run, corpus=corpus, progress=progress)
        # Only now the libraries of models, which take seconds to load.
        from .passes import read_cells
        from .preparation import prepare
        from .rows import write_study

        study = prepare(request, device, progress)
        if dry_run:
            return _plan(study)
        perturbation_id = study.identifier()
        is_new = database.store.commit(perturbation_id) is None
        reading = None
        if is_new:
            with database.store.job(perturbation_id, kind="perturbation") as job:
                reading = read_cells(study, job, progress)
                write_study(study, reading, job, started_at=started_at)
                job.commit()
    return PerturbationReport(
        perturbation_id=perturbation_id,
        model=study.model.name,
        revision=study.model.revision,
        is_new=is_new,
        n_cells=len(study.cells) + 1,
        n_cells_reused=0 if reading is None else reading.n_known,
        cell_s=None if reading is None else reading.cell_s,
        duration_s=(datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
        **study.counts,
    )


def _plan(study: "Study") -> PerturbationPlan:
    """Return what a study would do, after reading the model out once as it is."""
    from .passes import known_cells

    started = time.monotonic()
    study.readout.read()
    cell_s = time.monotonic() - started
    cells = {study.cell_id(cell): cell for cell in study.cells}
    database, perturbation_id = study.request.database, study.identifier()
    return PerturbationPlan(
        perturbation_id=perturbation_id,
        is_new=database.store.commit(perturbation_id) is None,
        n_neurons=len(study.population),
        n_cells={"none": 1, **Counter(cell.selection for cell in cells.values())},
        n_cells_known=len(known_cells(database, cells)),
        cell_s=cell_s,
        **study.counts,
    )
