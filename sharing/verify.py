"""Verification: whether what is shared is whole, agrees with itself, and is what its models give if asked again."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import IngestError, NeuronlakeError, StoreError
from ..ingest.jobs.job import ingest_model
from ..ingest.jobs.settings import Resources, Settings
from ..progress import Progress, SilentProgress
from ..queries.database import Database
from ..queries.status import check_store
from ..schema.leftovers import Problem
from ..schema.names import corpus_job
from ..schema.store import Store
from ..schema.stores.union import Place, open_store
from ..schema.tables import TABLES
from .comparison import tolerance, worst_difference
from .jobs import DEFINED_BY, Inventory
from .transfer import at_hand

# Tables whose rows each need the row of another that the columns of its grain name, by the other.
_NEEDED_BY = {
    "runs": ("layers", "run_functions"),
    "layers": ("neurons", "neuron_functions", "neuron_best", "function_top_neurons", "control_best"),
    "control_functions": ("control_top_neurons",),
    "instances": ("top_instances", "labels"),
    "texts": ("instances",),
    "functions": ("labels",),
    "partitions": ("experts",),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify_store` found, and how much it read."""

    problems: tuple[Problem, ...]  # what is wrong, by path or table; none if all is well
    n_files: int
    n_runs: int

    def describe(self) -> str:
        """Return the verdict as one line."""
        verdict = f"{len(self.problems):,} problems" if self.problems else "whole, and agrees with itself"
        return f"{self.n_files:,} files of {self.n_runs:,} runs: {verdict}"


def verify_store(store: Place) -> Verdict:
    """Read every file of a store or pack, and hold its tables against each other.

    Commits and digests, columns, types, NULL and NaN, keys that are there twice; rows that refer to what is not there;
    scores that are missing of some neuron or function; best functions and top neurons that do not follow from scores.
    What is in one file or at a URL is copied first, into a temporary folder.

    Parameters
    ----------
    store
        The store's folder, a pack in one file, or a URL; several are verified as one.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be read.

    Examples
    --------
    >>> neuronlake.verify_store("neuronlake-store").problems
    ()
    """
    with at_hand(store) as folder:
        report = check_store(folder.path)
        problems = list(report.problems)
        if not problems:  # else what follows would say the same again
            with Database(folder) as database:
                problems += [*_unmade(folder), *_unjoined(database), *_disagreeing(database)]
        n_runs = sum(commit.kind == "run" for commit in folder.commits())
    return Verdict(tuple(problems), report.n_files, n_runs)


def _unmade(store: Store) -> Iterator[Problem]:
    """Yield what jobs refer to and no job makes."""
    every = Inventory(store).jobs
    made = {key for job in every for key in job.makes}
    for job in every:
        for name, of in sorted(job.refers - made):
            yield Problem(f"commits/{job.commit.job}", f"refers to {name} {of}, of which {DEFINED_BY[name]} has no row")


def _unjoined(database: Database) -> Iterator[Problem]:
    """Yield the tables with rows that refer to rows that are not there."""
    for table, other in ((table, other) for other, tables in _NEEDED_BY.items() for table in tables):
        if database.committed[table]:
            columns = TABLES[other].grain
            keys = ", ".join(columns)
            query = f"select {keys}, count(*) from {table} anti join {other} using ({keys}) group by all order by all"
            for *values, n_rows in database.sql(query).rows()[:3]:
                where = ", ".join(f"{name} {value}" for name, value in zip(columns, values, strict=True))
                yield Problem(f"data/{table}", f"{n_rows:,} rows of {where}, of which {other} has no row")


def _disagreeing(database: Database) -> Iterator[Problem]:
    """Yield layers whose scores are not one for each neuron and function, or whose lists do not follow from them."""
    for run_id, stack, layer, what, n in database.ask("verify_scores").rows():
        yield Problem("data/neuron_functions", f"run {run_id}, {stack} layer {layer}: {n:,} {what}")


# What a run measures layer by layer, and the columns of it that say which layers were measured.
_TABLES = ("layers", "run_functions", "neurons", "neuron_functions", "routing")
_IGNORED = ("run_id", "revision", "step")


def recompute(
    store: Place,
    *,
    layers: Sequence[int] | None = None,
    run: str | None = None,
    model: str | None = None,
    tokenizer: str | None = None,
    corpora: str | os.PathLike[str] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[Problem, ...]:
    """Measure layers of stored runs again and compare every number with the stored one.

    Parameters
    ----------
    store
        The store's folder, a pack in one file, or a URL; several are read as one.
    layers
        The layers to measure; None for all of each run.
    run
        run_id of the run to measure, or its first digits; None for all runs that were measured, not imported.
    model
        Hub id or folder of the model's weights; None for the name that the run has for it. Their digest must be the
        run's.
    tokenizer
        Hub id or folder of the tokenizer of runs that were measured with another than the checkpoint's own: a run does
        not say with which. It must make as many tokens of the corpus.
    corpora
        A store that holds the corpora, where `store` is without texts; digests must be the same.
    device, progress
        The device, as in `Resources`, and where to report.

    Returns
    -------
    tuple of Problem
        What could not be measured, and of each run whose numbers lie beyond the tolerance the worst.

    Raises
    ------
    StoreError
        If the store cannot be read, or holds no such run.

    Examples
    --------
    >>> neuronlake.recompute("neuronlake-store", layers=[0], model="tiny-bert")
    ()
    """
    shown = progress or SilentProgress()
    problems: list[Problem] = []
    with Database(store) as database, tempfile.TemporaryDirectory(prefix="neuronlake-") as folder:
        query = "from runs where measurement = 'measured' and starts_with(run_id, $run) order by run_id"
        runs = list(database.sql(f"select * {query}", {"run": run or ""}))
        if not runs:
            raise StoreError(f"{store} holds no measured run{'' if run is None else f' {run}'}")
        for measured in runs:
            shown.note(f"run {measured['run_id']}: {measured['model']} {measured['revision']} is measured again")
            again = Store(Path(folder) / str(measured["run_id"]))
            try:
                _copy_corpus(database.store, again, measured, corpora)
                seed = measured["seed"] if isinstance(measured["seed"], int) else None
                is_main = measured["revision"] == "main"
                report = ingest_model(
                    model or str(measured["model"]),
                    corpus=str(measured["corpus"]),
                    store=again.path,
                    name=str(measured["model"]),
                    revision=None if seed is not None or is_main else str(measured["revision"]),
                    random_init=seed,
                    settings=replace(_settings(measured, layers), tokenizer=tokenizer),
                    resources=Resources(device=device),
                    progress=shown,
                )
                problems += _compared(database.store, again, measured, report.run_id, layers)
            except NeuronlakeError as error:
                problems.append(Problem(f"run {measured['run_id']}", f"cannot be measured: {error}"))
    return tuple(problems)


def _copy_corpus(store: Store, again: Store, run: Mapping[str, object], corpora: str | os.PathLike[str] | None) -> None:
    """Add the corpus of a run to an empty store, from a store that has its texts."""
    source = open_store(corpora) if corpora is not None else store
    name = corpus_job(str(run["corpus"]))
    commit = source.commit(name)
    if commit is None:
        raise StoreError(f"{source} holds no corpus {run['corpus']}")
    with Database(source) as database:
        query = "select any_value(corpus_sha256), count(*) - count(text) from texts join corpora using (corpus)"
        ((digest, n_lacking),) = database.sql(f"{query} where corpus = $corpus", {"corpus": run["corpus"]}).rows()
    if digest != run["corpus_sha256"]:
        raise StoreError(f"corpus {run['corpus']} of {source} is another: its digest is {digest}")
    if n_lacking != 0:
        raise StoreError(f"corpus {run['corpus']} of {source} lacks its texts; `corpora` names a store that has them")
    again.add_copy(commit, source)


def _settings(run: Mapping[str, object], layers: Sequence[int] | None) -> Settings:
    names = ("site", "pooling", "router", "dtype", "storage", "max_tokens", "special_tokens", "halves", "min_instances")
    stored = {name: run[name] for name in names if run[name] is not None}
    of_run = None if run["layers"] is None else tuple(map(int, str(run["layers"]).split(",")))
    chosen = tuple(layers) if layers is not None else of_run
    if layers is not None and of_run is not None and not {*layers} <= {*of_run}:
        raise IngestError(f"it holds the layers {run['layers']} alone")
    return Settings(**stored, layers=chosen, n_top=0)  # type: ignore[arg-type]


def _compared(
    store: Store, again: Store, run: Mapping[str, object], run_id: str, layers: Sequence[int] | None
) -> Iterator[Problem]:
    """Yield what differs between a stored run and the one made again."""
    where = f"run {run['run_id']}"
    with Database(again) as other:
        (made,) = other.sql("select weights_sha256, device, n_tokens from runs")
    stored, measured = store.commit(str(run["run_id"])), again.commit(run_id)
    if made["weights_sha256"] != run["weights_sha256"]:
        yield Problem(where, f"the weights at hand are others: their digest is {made['weights_sha256']}")
    elif made["n_tokens"] != run["n_tokens"]:
        n_tokens = f"{made['n_tokens']:,} tokens where it had {run['n_tokens']:,}"
        yield Problem(where, f"the corpus makes {n_tokens}; `tokenizer` names the one it was measured with")
    elif stored is None or measured is None:
        raise StoreError(f"run {run['run_id']} was removed from {store} meanwhile")
    else:
        allowed = tolerance([str(run["dtype"])], is_same_device=made["device"] == run["device"])
        pair = (store, stored), (again, measured)
        found = worst_difference(*pair, allowed, tables=_TABLES, ignored=_IGNORED, layers=layers)
        if found is not None:
            yield Problem(where, f"stored and measured again: {found} ({allowed})")
