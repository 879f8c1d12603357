"""The study: perturb the neurons of one function after the other, and read out all functions."""

import datetime
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ...ingest.models.checkpoint import Checkpoint
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from .request import find_request
from .settings import PerturbationSettings
from .values import known_cells

__all__ = ["PerturbationPlan", "PerturbationReport", "plan_perturbation", "study_perturbation"]


@dataclass(frozen=True, slots=True)
class PerturbationReport:
    """What a study did.

    Parameters
    ----------
    perturbation_id, model, revision
        Keys of the study.
    is_new
        False if the store already held it, so that nothing was done.
    n_sources, n_targets
        Functions whose neurons were perturbed, and functions read out.
    n_cells, n_cells_reused
        Passes over the texts, and how many of them an earlier attempt or study had made.
    n_instances, n_texts
        What was read out.
    cell_s
        Wall time of a pass, in seconds; None if none was made.
    duration_s
        Wall time.
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
        """Return what was done as one line."""
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
    perturbation_id
        Key the study would have.
    is_new
        False if the store already holds it.
    n_sources, n_targets, n_neurons, n_instances, n_texts
        What would be perturbed and read out.
    n_cells
        Passes over the texts, by selection.
    n_cells_known
        How many of them earlier studies have made.
    cell_s
        Wall time of a pass, measured on the model as it is.
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
    progress: Progress | None = None,
) -> PerturbationReport:
    """Perturb the neurons of each source, and those of controls, and store the damage to every function.

    Neurons are chosen by their scores on half a of the texts; what the readout has to learn, it learns there from the
    model as it is; all is read on half b. A study that was killed goes on where it was; passes that an earlier study
    of this store has made, by the same version, are not made again.

    Parameters
    ----------
    model
        Hub id, folder or ``.gguf`` file.
    store
        The store's folder.
    settings
        What defines the study.
    run
        Beginning of the id of the run whose scores choose the neurons; None for the only one of the model.
    corpus
        Corpus to read out; the run's if None.
    revision, random_init, name
        The checkpoint, as in `ingest_model`.
    device
        Torch device; ``auto`` takes a GPU where there is one.
    progress
        Where to report.

    Raises
    ------
    UnknownNameError
        If there is no such run, partition, corpus, family or function, or several runs where one was meant.
    AnalysisError
        If the run does not fit the model or the study, if no source has neurons enough, or if a perturbation leaves
        losses that are not finite.
    IngestError
        If the model cannot be loaded or lacks the head that a readout needs.
    QueryError
        If the query of the settings is wrong.
    StoreError
        If the store cannot be read or written.
    """
    started_at = datetime.datetime.now(datetime.UTC)
    progress = progress or SilentProgress()
    with Database(store) as database:
        checkpoint = Checkpoint(model, revision, random_init, name)
        request = find_request(database, checkpoint, settings, run=run, corpus=corpus, device=device, progress=progress)
        # Only now the libraries of models, which take seconds to load.
        from .passes import read_cells
        from .preparation import prepare
        from .rows import write_study

        study = prepare(database, request, progress)
        is_new = database.store.commit(study.perturbation_id) is None
        n_reused, cell_s = 0, None
        if is_new:
            with database.store.job(study.perturbation_id, kind="perturbation") as job:
                reading, n_reused, cell_s = read_cells(study, job, progress)
                write_study(study, reading, job, n_reused=n_reused, cell_s=cell_s, started_at=started_at)
                job.commit()
    return PerturbationReport(
        perturbation_id=study.perturbation_id,
        model=study.model.name,
        revision=study.model.revision,
        is_new=is_new,
        n_sources=study.n_sources,
        n_targets=len(study.readout.functions),
        n_cells=len(study.cells) + 1,
        n_cells_reused=n_reused,
        n_instances=len(study.readout.instance_id),
        n_texts=study.n_texts,
        cell_s=cell_s,
        duration_s=(datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
    )


def plan_perturbation(
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
    progress: Progress | None = None,
) -> PerturbationPlan:
    """Say what `study_perturbation` with the same arguments would do, without writing anything.

    Loads the model, fits the readout and reads the model out once as it is.
    """
    progress = progress or SilentProgress()
    with Database(store) as database:
        checkpoint = Checkpoint(model, revision, random_init, name)
        request = find_request(database, checkpoint, settings, run=run, corpus=corpus, device=device, progress=progress)
        # Only now the libraries of models, which take seconds to load.
        from .preparation import prepare

        study = prepare(database, request, progress)
        started = time.monotonic()
        study.readout.read()
        cell_s = time.monotonic() - started
        cells = {study.cell_id(cell): cell for cell in study.cells}
        n_cells: dict[str, int] = {"none": 1}
        for cell in cells.values():
            n_cells[cell.ranking.selection] = n_cells.get(cell.ranking.selection, 0) + 1
        known = known_cells(database, cells)
        return PerturbationPlan(
            perturbation_id=study.perturbation_id,
            is_new=database.store.commit(study.perturbation_id) is None,
            n_sources=study.n_sources,
            n_targets=len(study.readout.functions),
            n_neurons=len(study.population),
            n_instances=len(study.readout.instance_id),
            n_texts=study.n_texts,
            n_cells=n_cells,
            n_cells_known=sum(cell_id in known for cell_id in cells),
            cell_s=cell_s,
        )
