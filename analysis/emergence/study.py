"""The study: partitions of every checkpoint of a series, and how much they agree, as one job."""

import datetime
import os
from dataclasses import asdict, dataclass
from typing import cast, get_args

from ...engines.engine import Engine, SerialEngine
from ...ingest.models.checkpoint import Checkpoint
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from ...schema.names import IDENTITY_VERSION, identifier
from .lineages import Role, make_cold, make_lineages, n_partitions
from .series import find_series
from .settings import EmergenceSettings
from .summary import notices


@dataclass(frozen=True, slots=True)
class EmergenceReport:
    """What a study did."""

    emergence_id: str
    model: str
    last_run_id: str
    corpus: str
    method: str
    n_experts: int  # a layer, the most where layers differ
    is_new: bool  # False if the store already held all of it, so that nothing was done
    run_ids: tuple[str, ...]  # of the checkpoints, in the order of steps
    steps: tuple[int, ...]
    n_partitions: int
    n_partitions_reused: int  # those that the store held
    notices: tuple[str, ...]  # what else to know, a line each
    duration_s: float

    def describe(self) -> str:
        """Return what was done as one line, and a line of each notice."""
        line = f"emergence {self.emergence_id}: {self.model} on {self.corpus}, {len(self.steps)} checkpoints, "
        line += f"step {self.steps[0]:,} to {self.steps[-1]:,}, {self.n_experts} experts a layer by {self.method}, "
        line += f"{self.n_partitions} partitions"
        known = f" ({self.n_partitions_reused} known)" if self.n_partitions_reused else ""
        line += f"{known}, {self.duration_s:.1f} s" if self.is_new else "; already in the store, nothing done"
        return "\n".join([line, *(f"note: {notice}" for notice in self.notices)])


def study_emergence(
    model: str,
    *,
    store: str | os.PathLike[str],
    settings: EmergenceSettings,
    corpus: str | None = None,
    run: str | None = None,
    name: str | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> EmergenceReport:
    """Partition every checkpoint of a series, store the partitions and how much they agree, and report the study.

    At each checkpoint experts are made from several seeds, and once more starting from the experts of the checkpoint
    before; native experts are the model's own. Two controls are made of the last checkpoint: random groups, and
    matched groups, which are its experts permuted among neurons of similar input norm and firing rate. Only layers
    that the run of the last checkpoint measured are studied. How similar scores are at two checkpoints is stored, of
    neurons and of the partitions of the last checkpoint, for the views of stability to read. A study that was killed
    goes on with what it has made.

    Parameters
    ----------
    model, name
        Hub id or folder whose revisions kmeans loads, and the name it is stored under, by default the id or the
        folder's; for all other methods, the model as stored is enough.
    store, settings, progress
        The store's folder, how experts are made, and where to report.
    corpus, run
        Corpus of the series, and beginning of the id of any of its runs: None if there is one series to choose.
    engine
        Where each checkpoint is divided from several seeds: in this process if None, or by `RayEngine` in several.

    Raises
    ------
    UnknownNameError
        If there is no such model, corpus or run, or several series where one was meant.
    AnalysisError
        If the series has fewer than three checkpoints, if it did not measure a layer of the settings, if a checkpoint
        cannot be loaded or has changed since it was measured, or if its neurons cannot be divided as asked.
    EngineError
        If the engine lacks what it needs, or its workers die.
    StoreError
        If the store cannot be read or written.

    Examples
    --------
    >>> series = neuronlake.ingest_series("tiny-series", corpus="animals", store="neuronlake-store")
    >>> settings = neuronlake.EmergenceSettings(n_experts=4, n_random=1)
    >>> report = neuronlake.study_emergence("tiny-series", store="neuronlake-store", settings=settings)
    >>> report.model
    'tiny-series'
    """
    started_at = datetime.datetime.now(datetime.UTC)
    progress = progress or SilentProgress()
    with Database(store) as database:
        series = find_series(database, Checkpoint(model, name=name).stored_name, corpus=corpus, run=run)
        # Weights and scores are determined by the ids of the runs, and so are the partitions; nothing need be loaded.
        runs = [checkpoint.run_id for checkpoint in series.checkpoints]
        definition = {"schema_version": IDENTITY_VERSION, "study": "emergence", "roles": get_args(Role), "runs": runs}
        emergence_id = identifier(definition | asdict(settings))
        n_all, n_new, n_cold = n_partitions(series, settings), 0, 0
        is_new = database.store.commit(emergence_id) is None
        if is_new:
            with database.store.job(emergence_id, kind="emergence", resume=False) as job:
                from .rows import write_study

                if engine is not None and not isinstance(engine, SerialEngine):
                    n_cold = make_cold(database.store, model, series, settings, engine, progress)
                progress.phase("partitioning checkpoints", total=n_all, unit="partitions")
                lineages, n_new = make_lineages(database, model, series, settings, progress)
                write_study(job, series, settings, lineages, started_at)
                job.commit()
    with Database(store) as database:
        # Only now numba, which takes a moment to load.
        from .stability import store_stability

        query = "select partition_id from emergence_partitions where emergence_id = ? and run_id = ? and role != 'warm'"
        partitions = [str(each) for (each,) in database.sql(query, [emergence_id, series.last.run_id]).rows()]
        is_new |= store_stability(database, series, sorted(partitions), progress)
        query = "select n_experts from emergence_studies where emergence_id = ?"
        ((n_experts,),) = database.sql(query, [emergence_id]).rows()
        notes = tuple(notices(database, emergence_id, series, settings))
    return EmergenceReport(
        emergence_id=emergence_id,
        model=series.model,
        last_run_id=series.last.run_id,
        corpus=series.corpus,
        method=settings.method,
        n_experts=cast("int", n_experts),
        is_new=is_new,
        run_ids=tuple(runs),
        steps=tuple(checkpoint.step for checkpoint in series.checkpoints),
        n_partitions=n_all,
        n_partitions_reused=n_all - n_new - n_cold,
        notices=notes,
        duration_s=(datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
    )
