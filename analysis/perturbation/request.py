"""What a study asks for, found in the store and checked before the model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from ...errors import AnalysisError, UnknownNameError
from ...ingest.corpora.stored import StoredCorpus
from ...ingest.models.checkpoint import Checkpoint
from ...progress import Progress
from ...queries.database import Database
from ..lookup import Run, find_partition, find_run
from .population import check_layers
from .settings import ROUTING, PerturbationSettings


@dataclass(frozen=True, slots=True)
class Request:
    """What a study asks for."""

    # The store, the checkpoint whose neurons are ablated, and the settings of the study
    database: Database
    checkpoint: Checkpoint
    settings: PerturbationSettings
    run: Run  # the run whose scores select neurons
    partition_id: str | None  # the partition whose experts are selected; None if there is none
    # The corpus that is read out, and the longest text in tokens
    corpus: StoredCorpus
    max_tokens: int


def find_request(
    database: Database,
    checkpoint: Checkpoint,
    settings: PerturbationSettings,
    *,
    run: str | None,
    corpus: str | None,
    progress: Progress,
) -> Request:
    """Find in the store what a study asks for; parameters and errors are those of `study.study_perturbation`."""
    # Where no revision is asked for, the run may be of any.
    is_any = checkpoint.revision is None and checkpoint.random_init is None
    found = find_run(database, run, checkpoint.stored_name, revision=None if is_any else checkpoint.stored_revision)
    run_id = found.run_id
    if found.measurement != "measured" or found.site != "activation":
        what = "imported" if found.measurement != "measured" else f"of the site {found.site}"
        raise AnalysisError(
            f"run {run_id} is {what}; a study needs a run that measured the site activation, which is what is perturbed"
        )
    if found.halves == "word":
        raise AnalysisError(
            f"run {run_id} has halves by word: neurons chosen on half a have seen the texts of half b; a study needs a "
            "run of --halves text"
        )
    partition_id = None if settings.partition is None else _partition(database, settings, found, progress)
    if settings.layers is not None:
        layers = database.sql("select distinct layer from layers where run_id = ?", [run_id]).rows()
        check_layers(run_id, settings.layers, {cast("int", layer) for (layer,) in layers})
    if settings.query is None:
        functions = database.sql("select family, function from run_functions where run_id = ?", [run_id]).rows()
        where = f"the functions that run {run_id} measured"
        wanted_functions(cast("list[tuple[str, str]]", functions), settings, where)
    assert found.corpus is not None  # a measured run has both
    assert found.max_tokens is not None
    max_tokens = settings.max_tokens or found.max_tokens
    if max_tokens > found.max_tokens:
        raise AnalysisError(f"texts of {max_tokens} tokens: run {run_id} measured texts of up to {found.max_tokens}")
    stored = StoredCorpus(database.store, corpus or found.corpus)
    return Request(database, checkpoint, settings, found, partition_id, stored, max_tokens)


def _partition(database: Database, settings: PerturbationSettings, run: Run, progress: Progress) -> str:
    """Return the id of the partition of a study; refuse one that does not fit the study."""
    partition = find_partition(database, settings.partition or "")
    partition_id = partition.partition_id
    if partition.model != run.model:
        raise AnalysisError(f"partition {partition_id} is of {partition.model}, run {run.run_id} of {run.model}")
    if partition.revision != run.revision:
        progress.note(
            f"partition {partition_id} is of the neurons of {partition.revision}, run {run.run_id} of {run.revision}"
        )
    if settings.kind in ROUTING and partition.method != "native":
        raise AnalysisError(
            f"the kind {settings.kind} takes whole native experts, and partition {partition_id} is by "
            f"{partition.method}"
        )
    made_of = "select max(partition_half) from partitions_of_runs where run_id = ? and partition_id = ?"
    if database.sql(made_of, [run.run_id, partition_id]).rows() in ([("all",)], [("b",)]):
        progress.note(
            f"partition {partition_id} was made of scores on the half that is read out: what it shows is not "
            "independent of how its experts were made"
        )
    return partition_id


def wanted_functions(
    functions: Sequence[tuple[str, str]], settings: PerturbationSettings, where: str
) -> list[tuple[str, str]]:
    """Return those functions that the settings name, or all if they name none; there must be one.

    `where` says in the message of an `UnknownNameError` which functions there are.
    """
    families = sorted({family for family, _ in functions})
    for family in settings.families:
        if family not in families:
            raise UnknownNameError("family", family, families, where=where)
    chosen = [function for function in functions if function[0] in (settings.families or families)]
    names = ["/".join(function) for function in chosen]
    for name in settings.functions:
        if name not in names:
            raise UnknownNameError("function", name, names, where=where)
    if not chosen:
        raise AnalysisError("no function of the run is of the families and functions asked for and can be read out")
    return [function for function, name in zip(chosen, names, strict=True) if name in (settings.functions or names)]
