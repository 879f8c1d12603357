"""The study: ablate the neurons of one source after the other, and read out all functions each time."""

import datetime
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...engines.engine import Engine
from ...engines.serial import SerialEngine
from ...ingest.models.checkpoint import Checkpoint
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from .request import find_request
from .settings import PerturbationSettings


@dataclass(frozen=True, slots=True)
class PerturbationReport:
    """What a study did, or in a dry run would do.

    Parameters
    ----------
    perturbation_id, model, revision
        Keys of the study.
    is_new, is_dry_run
        False if the store already held the study, so that nothing was done; true if it was only asked what would be.
    n_sources, n_targets
        Number of functions whose neurons are ablated, and of functions read out.
    n_neurons
        Number of neurons in the studied layers.
    n_instances, n_texts
        Number of instances and texts read out.
    n_cells, n_cells_reused
        Number of passes over the texts, by selection, and of those that an earlier attempt or study had made.
    cell_s, duration_s
        Wall time of a pass and of all, in seconds; `cell_s` is None if nothing was done.
    """

    perturbation_id: str
    model: str
    revision: str
    is_new: bool
    is_dry_run: bool
    n_sources: int
    n_targets: int
    n_neurons: int
    n_instances: int
    n_texts: int
    n_cells: Mapping[str, int]
    n_cells_reused: int
    cell_s: float | None
    duration_s: float

    def describe(self) -> str:
        """Return what was done as one line, or what would be done as a few."""
        n_cells, what, cell_s = sum(self.n_cells.values()), f"perturbation {self.perturbation_id}", self.cell_s or 0.0
        texts = f"{self.n_instances:,} instances of {self.n_texts:,} texts"
        if self.is_dry_run:
            by_selection = ", ".join(f"{n:,} {selection}" for selection, n in self.n_cells.items())
            left_s = (n_cells - self.n_cells_reused) * cell_s
            return (
                f"{what} {'would be made' if self.is_new else 'is already in the store: nothing would be done'}\n"
                f"perturbed  neurons of {self.n_sources:,} sources, of {self.n_neurons:,} in the layers studied\n"
                f"read out   {self.n_targets:,} functions on {texts}\n"
                f"cells      {n_cells:,} ({by_selection}), {self.n_cells_reused:,} of them known\n"
                f"time       {cell_s:.2f} s a cell, about {left_s:,.0f} s on this machine"
            )
        line = f"{what}: {self.model} {self.revision}, "
        line += f"{self.n_sources:,} sources x {self.n_targets:,} targets over {texts}"
        if not self.is_new:
            return f"{line}; already in the store, nothing done"
        known = f" ({self.n_cells_reused:,} known)" if self.n_cells_reused else ""
        return f"{line}, {n_cells:,} cells{known} at {cell_s:.2f} s, {self.duration_s:.1f} s"


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
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> PerturbationReport:
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
    engine
        Where cells are read: in this process if None, or by `RayEngine` in several.
    progress
        Where to report.

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
    EngineError
        If the engine lacks what it needs, or its workers die.
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
        from .passes import known_cells, read_cells
        from .preparation import prepare
        from .rows import write_study
        from .workers import read_in_workers

        study = prepare(request, device, progress)
        perturbation_id = study.identifier()
        is_new = database.store.commit(perturbation_id) is None
        n_reused, cell_s = 0, None
        if dry_run:
            n_reused = len(known_cells(database, map(study.cell_id, study.cells)))
            started = time.monotonic()
            study.readout.read()
            cell_s = time.monotonic() - started
        elif is_new:
            with database.store.job(perturbation_id, kind="perturbation") as job:
                n_elsewhere = 0
                if engine is not None and not isinstance(engine, SerialEngine):
                    n_elsewhere = read_in_workers(study, job.folder("cells"), engine, device, progress)
                reading = read_cells(study, job, progress)
                reading = replace(reading, n_known=reading.n_known - n_elsewhere)
                write_study(study, reading, job, started_at=started_at)
                job.commit()
            n_reused, cell_s = reading.n_known, reading.cell_s
    return PerturbationReport(
        perturbation_id=perturbation_id,
        model=study.model.name,
        revision=study.model.revision,
        is_new=is_new,
        is_dry_run=dry_run,
        n_neurons=len(study.population),
        n_cells={"none": 1, **Counter(cell.selection for cell in study.cells)},
        n_cells_reused=n_reused,
        cell_s=cell_s,
        duration_s=(datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
        **study.counts,
    )
