"""The study: ablate the neurons of one source after the other, and read out all functions each time.

What it asks for is found in the store, and checked, before a model is loaded.
"""

import datetime
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from ...engines.engine import Engine
from ...errors import AnalysisError, check_known
from ...ingest.corpora.stored import StoredCorpus
from ...ingest.models.checkpoint import Checkpoint
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from ..lookup import Partition, Run, find_run, starting_with
from .population import check_layers
from .settings import ROUTING, Functions, PerturbationSettings


@dataclass(frozen=True, slots=True)
class Request:
    """What a study asks for."""

    database: Database
    checkpoint: Checkpoint  # whose neurons are ablated
    settings: PerturbationSettings
    run: Run  # whose scores select neurons
    partition_id: str | None  # whose experts are selected; None if there is none
    corpus: StoredCorpus  # that is read out
    max_tokens: int  # of the longest text


@dataclass(frozen=True, slots=True)
class PerturbationReport:
    """What a study did, or in a dry run would do."""

    perturbation_id: str
    model: str
    revision: str
    is_new: bool  # False if the store already held the study, so that nothing was done
    is_dry_run: bool
    n_sources: int  # functions whose neurons are ablated
    n_targets: int  # functions read out
    n_neurons: int  # of the layers studied
    n_instances: int  # read out
    n_texts: int
    n_cells: Mapping[str, int]  # passes over the texts, by selection
    n_cells_reused: int  # those that an earlier attempt or study had made
    cell_s: float | None  # of a pass; None if nothing was done
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
    model, revision, random_init, name
        The checkpoint, as in `ingest_model`.
    store, settings, progress
        The store's folder, the settings of the study, and where to report.
    run, corpus
        Id of the run whose scores select neurons, or its beginning, and the corpus to read out. None: the only run of
        the model, and its corpus.
    device, engine
        Torch device, ``auto`` for a GPU where there is one; and where cells are read: in this process if None, or by
        `RayEngine` in several.
    dry_run
        Return what would be done, and write nothing. The model is loaded, the readout fitted, and the model read out
        once as it is.

    Raises
    ------
    UnknownNameError
        If there is no such run, partition, corpus, family or function, or several runs where one was meant.
    AnalysisError
        If the run or the partition does not fit the model or the study, if no source has enough neurons, or if an
        ablation leaves losses that are not finite.
    IngestError
        If the model cannot be loaded or lacks the head that a readout needs.
    QueryError, EngineError, StoreError
        If the query is wrong; the engine lacks what it needs, or its workers die; the store cannot be read or written.

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

        study = prepare(request, device, progress)
        perturbation_id = study.identifier()
        is_new = database.store.commit(perturbation_id) is None
        n_reused, cell_s = 0, None
        if dry_run:
            n_reused, started = len(known_cells(database, map(study.cell_id, study.cells))), time.monotonic()
            study.readout.read()
            cell_s = time.monotonic() - started
        elif is_new:
            with database.store.job(perturbation_id, kind="perturbation") as job:
                reading = read_cells(study, job, device, engine, progress)
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


def find_request(
    database: Database,
    checkpoint: Checkpoint,
    settings: PerturbationSettings,
    *,
    run: str | None,
    corpus: str | None,
    progress: Progress,
) -> Request:
    """Find in the store what a study asks for; parameters and errors are those of `study_perturbation`."""
    # Where no revision is asked for, the run may be of any.
    is_any = checkpoint.revision is None and checkpoint.random_init is None
    found = find_run(database, run, checkpoint.stored_name, revision=None if is_any else checkpoint.stored_revision)
    run_id, is_measured = found.run_id, found.measurement == "measured"
    if not is_measured or found.site != "activation":
        what = f"of the site {found.site}" if is_measured else "imported"
        needed = "a study needs a run that measured the site activation, which is what is perturbed"
        raise AnalysisError(f"run {run_id} is {what}; {needed}")
    if found.halves == "word":
        problem = f"run {run_id} has halves by word: neurons chosen on half a have seen the texts of half b"
        raise AnalysisError(f"{problem}; a study needs a run of --halves text")
    partition_id = None if settings.partition is None else _partition(database, settings, found, progress)
    if settings.layers is not None:
        check_layers(run_id, settings.layers, set(database.ask("measured_layers", run=run_id).pl()["layer"]))
    if settings.query is None:
        wanted_functions(measured_functions(database, run_id), settings, f"the functions that run {run_id} measured")
    longest = cast("int", found.max_tokens)  # a measured run has it, and a corpus
    max_tokens = settings.max_tokens or longest
    if max_tokens > longest:
        raise AnalysisError(f"texts of {max_tokens} tokens: run {run_id} measured texts of up to {longest}")
    stored = StoredCorpus(database.store, corpus or cast("str", found.corpus))
    return Request(database, checkpoint, settings, found, partition_id, stored, max_tokens)


def _partition(database: Database, settings: PerturbationSettings, run: Run, progress: Progress) -> str:
    """Return the id of the partition of a study; refuse one that does not fit the study."""
    partition = starting_with(database, Partition, settings.partition or "")
    partition_id = partition.partition_id
    if partition.model != run.model:
        raise AnalysisError(f"partition {partition_id} is of {partition.model}, run {run.run_id} of {run.model}")
    if partition.revision != run.revision:
        whose = f"partition {partition_id} is of the neurons of {partition.revision}"
        progress.note(f"{whose}, run {run.run_id} of {run.revision}")
    if settings.kind in ROUTING and partition.method != "native":
        problem = f"the kind {settings.kind} takes whole native experts"
        raise AnalysisError(f"{problem}, and partition {partition_id} is by {partition.method}")
    ((half,),) = database.ask("perturbation_partition_half", run=run.run_id, partition=partition_id).rows()
    if half in ("all", "b"):
        made = f"partition {partition_id} was made of scores on the half that is read out"
        progress.note(f"{made}: what it shows is not independent of how its experts were made")
    return partition_id


def measured_functions(database: Database, run_id: str) -> list[tuple[str, str]]:
    """Return the family and function of each function that a run measured."""
    rows = database.sql("select family, function from run_functions where run_id = ?", [run_id]).rows()
    return cast("list[tuple[str, str]]", rows)


def wanted_functions(functions: Functions, settings: PerturbationSettings, where: str) -> list[tuple[str, str]]:
    """Return those functions that the settings name, or all if they name none; there must be one."""
    families = sorted({family for family, _ in functions})
    check_known("family", settings.families, families, where=where)
    chosen = [function for function in functions if function[0] in (settings.families or families)]
    names = ["/".join(function) for function in chosen]
    check_known("function", settings.functions, names, where=where)
    if not chosen:
        raise AnalysisError("no function of the run is of the families and functions asked for and can be read out")
    return [function for function, name in zip(chosen, names, strict=True) if name in (settings.functions or names)]
