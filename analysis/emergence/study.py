"""The study: partitions of every checkpoint of a series, held against each other, and their experts followed."""

import datetime
import json
import os
from dataclasses import dataclass
from typing import cast, get_args

from ...ingest.models.source import stored_name
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from ...schema.commits import neuronlake_version
from ...schema.identity import IDENTITY_VERSION, identifier
from ...schema.store import Store
from .lineages import Lineage, Role, make_lineages, n_partitions
from .notices import notices
from .series import find_series
from .settings import EmergenceSettings

__all__ = ["EmergenceReport", "study_emergence"]


@dataclass(frozen=True, slots=True)
class EmergenceReport:
    """What a study did.

    Parameters
    ----------
    emergence_id, model, last_run_id
        Keys of the study and of its series.
    corpus
        What the series was measured on.
    method, n_experts
        How experts were made, and how many a layer, the most where layers differ.
    is_new
        False if the store already held it, so that nothing was done.
    steps
        Training steps of the checkpoints.
    n_partitions, n_partitions_reused
        Partitions of the study, and how many of them the store held.
    notices
        What else to know, a line each: steps that the series lacks, checkpoints with one and the same weights, what
        the method cannot do, and where the tests can find nothing.
    duration_s
        Wall time.
    """

    emergence_id: str
    model: str
    last_run_id: str
    corpus: str
    method: str
    n_experts: int
    is_new: bool
    steps: tuple[int, ...]
    n_partitions: int
    n_partitions_reused: int
    notices: tuple[str, ...]
    duration_s: float

    def describe(self) -> str:
        """Return what was done as one line, and a line of each notice."""
        line = (
            f"emergence {self.emergence_id}: {self.model} on {self.corpus}, {len(self.steps)} checkpoints, step "
            f"{self.steps[0]:,} to {self.steps[-1]:,}, {self.n_experts} experts a layer by {self.method}, "
            f"{self.n_partitions} partitions"
        )
        if not self.is_new:
            line += "; already in the store, nothing done"
        else:
            known = f" ({self.n_partitions_reused} known)" if self.n_partitions_reused else ""
            line += f"{known}, {self.duration_s:.1f} s"
        return "\n".join([line, *(f"note: {notice}" for notice in self.notices)])


def study_emergence(
    model: str,
    *,
    store: str | os.PathLike[str],
    settings: EmergenceSettings,
    corpus: str | None = None,
    run: str | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> EmergenceReport:
    """Partition every checkpoint of a series, hold the partitions against each other, and follow their experts.

    At each checkpoint experts are made anew from several seeds, and once more from the experts of the checkpoint
    before; native experts are what they are. Random partitions of the last checkpoint are made beside, and matched
    ones: its experts dealt anew among neurons of like input norm and firing rate. Only layers that the run of the
    last checkpoint measured are studied. A study that was killed goes on with the partitions it has made.

    Parameters
    ----------
    model
        Of kmeans, hub id or folder whose revisions are loaded; of all other methods, the model as stored will do.
    store
        The store's folder.
    settings
        What defines the study, beside the series.
    corpus
        Corpus of the series, if the model has series on several.
    run
        Beginning of the id of any run of the series, where the corpus does not tell.
    name
        Name the model is stored under; the hub id or folder name if None.
    progress
        Where to report.

    Raises
    ------
    UnknownNameError
        If there is no such model, corpus or run, or several series where one was meant.
    AnalysisError
        If the series has fewer than three checkpoints, if it did not measure a layer of the settings, if a checkpoint
        cannot be loaded or has changed since it was measured, or if its neurons cannot be divided as asked.
    StoreError
        If the store cannot be read or written.
    """
    started_at = datetime.datetime.now(datetime.UTC)
    progress = progress or SilentProgress()
    with Database(store) as database:
        series = find_series(database, name or stored_name(model), corpus=corpus, run=run)
        # The runs tell weights and scores by their ids, and so what the partitions are; nothing need be loaded.
        emergence_id = identifier(
            {
                "schema_version": IDENTITY_VERSION,
                "study": "emergence",
                "roles": get_args(Role),
                "runs": [each.run_id for each in series.checkpoints],
                **settings.definition(),
            }
        )
        n_all, n_new = n_partitions(series, settings), 0
        is_new = database.store.commit(emergence_id) is None
        if is_new:
            with database.store.job(emergence_id, kind="emergence", resume=False) as job:
                from .rows import write_study

                progress.phase("partitioning checkpoints", total=n_all, unit="partitions")
                lineages, n_new = make_lineages(database, model, series, settings, progress)
                described = {
                    "method": settings.method,
                    "n_experts": _n_experts(lineages),
                    "parameters": json.dumps(_parameters(settings)),
                    "n_seeds": len(settings.seeds),
                    "n_random": settings.n_random,
                    "seed": settings.seed,
                    "neuronlake_version": neuronlake_version(),
                    "started_at": started_at,
                    "duration_s": (datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
                }
                write_study(job, described, series, lineages)
                job.commit()
    with Database(Store(store)) as database:
        query = "select n_experts from emergence_studies where emergence_id = ?"
        ((n_experts,),) = database.sql(query, [emergence_id]).rows()
        known = tuple(notices(database, emergence_id, series, settings))
    return EmergenceReport(
        emergence_id=emergence_id,
        model=series.model,
        last_run_id=series.last.run_id,
        corpus=series.corpus,
        method=settings.method,
        n_experts=cast("int", n_experts),
        is_new=is_new,
        steps=tuple(each.step for each in series.checkpoints),
        n_partitions=n_all,
        n_partitions_reused=n_all - n_new,
        notices=known,
        duration_s=(datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
    )


def _n_experts(lineages: list[Lineage]) -> int:
    return max(int(each["expert"].max()) + 1 for each in lineages[0].partitions[-1].layers.values())


def _parameters(settings: EmergenceSettings) -> dict[str, object]:
    layers = None if settings.layers is None else list(settings.layers)
    return {"layers": layers, **settings.partition().parameters()}
