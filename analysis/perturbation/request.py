"""What a study is asked, found in the store: what is asked wrongly is told before the model is loaded."""

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
from .settings import PerturbationSettings

__all__ = ["Request", "find_request", "wanted_functions"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a study is asked.

    Parameters
    ----------
    checkpoint
        The checkpoint that is perturbed.
    device, settings
        As `study.study_perturbation` takes them.
    run
        The run whose scores choose neurons.
    partition_id
        The partition whose experts are chosen, None if none.
    corpus
        What is read out.
    max_tokens
        Longest text in tokens.
    """

    checkpoint: Checkpoint
    device: str
    settings: PerturbationSettings
    run: Run
    partition_id: str | None
    corpus: StoredCorpus
    max_tokens: int


def find_request(
    database: Database,
    checkpoint: Checkpoint,
    settings: PerturbationSettings,
    *,
    run: str | None,
    corpus: str | None,
    device: str,
    progress: Progress,
) -> Request:
    """Find what `study.study_perturbation` is asked for in the store.

    Raises
    ------
    UnknownNameError
        If there is no such run, partition, corpus, family or function, or several runs where one was meant.
    AnalysisError
        If the run or the partition does not fit the study.
    """
    # A run may be of any revision where none is asked for.
    is_any = checkpoint.revision is None and checkpoint.random_init is None
    revision = None if is_any else checkpoint.stored_revision
    found = find_run(database, run, checkpoint.stored_name, revision=revision)
    run_id = found.run_id
    if found.measurement != "measured" or found.site != "activation":
        what = "imported" if found.measurement != "measured" else f"of the site {found.site}"
        raise AnalysisError(
            f"run {run_id} is {what}; a study needs a run that measured the site activation, which is what is perturbed"
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
    return Request(checkpoint, device, settings, found, partition_id, stored, max_tokens)


def _partition(database: Database, settings: PerturbationSettings, run: Run, progress: Progress) -> str:
    """Return the id of the partition of a study; refuse one that does not fit it."""
    partition = find_partition(database, settings.partition or "")
    partition_id = partition.partition_id
    if partition.model != run.model:
        raise AnalysisError(f"partition {partition_id} is of {partition.model}, run {run.run_id} of {run.model}")
    if partition.revision != run.revision:
        progress.note(
            f"partition {partition_id} is of the neurons of {partition.revision}, run {run.run_id} of {run.revision}"
        )
    if settings.kind == "route-away" and partition.method != "native":
        raise AnalysisError(
            f"the kind route-away takes whole native experts, and partition {partition_id} is by {partition.method}"
        )
    if partition.half in ("all", "b"):
        progress.note(
            f"partition {partition_id} was made of scores on the half that is read out: what it shows is not "
            "independent of how its experts were made"
        )
    return partition_id


def wanted_functions(
    functions: Sequence[tuple[str, str]], settings: PerturbationSettings, where: str
) -> list[tuple[str, str]]:
    """Return the functions that the settings name, all if they name none; `where` says which there are to choose from.

    Raises
    ------
    UnknownNameError
        If there is no such family or function.
    AnalysisError
        If none is of the families and of the functions that are named.
    """
    found = list(functions)
    families = sorted({family for family, _ in functions})
    for family in settings.families:
        if family not in families:
            raise UnknownNameError("family", family, families, where=where)
    if settings.families:
        found = [each for each in found if each[0] in settings.families]
    names = ["/".join(each) for each in found]
    for function in settings.functions:
        if function not in names:
            raise UnknownNameError("function", function, names, where=where)
    if settings.functions:
        found = [each for each in found if "/".join(each) in settings.functions]
    if not found:
        raise AnalysisError("no function of the run is of the families and functions asked for and can be read out")
    return found
