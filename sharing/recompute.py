"""Recomputation: a model's layers measured again, and every stored score of them compared."""

import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from ..errors import IngestError, NeuronlakeError, StoreError
from ..ingest.jobs.job import ingest_model
from ..ingest.jobs.settings import Resources, Settings
from ..progress import Progress, SilentProgress
from ..queries.database import Database
from ..schema.leftovers import Problem
from ..schema.names import corpus_job
from ..schema.store import Store

# How far a number may lie from the stored one, by the type of the forward pass, on a device of the same name; ten times
# as far on another, where sums are rounded in another order.
TOLERANCES: Mapping[str, float] = {"float32": 1e-4, "float16": 1e-3, "bfloat16": 5e-3}
# Rounding also lets two instances of nearly equal activation change places, which moves scores by more: of so many.
MOVED_SHARE = 0.05
# And by so many tolerances at most. Mean activations do not follow from an order, and do not move.
_MOVED_SCORE = 500

_KEYS = ("stack", "layer", "neuron", "family", "function")
_SCORES = ("ap", "ap_complement", "auroc", "ap_half_a", "ap_half_b", "ap_complement_half_a", "ap_complement_half_b")
_ACTIVATIONS = ("mean_positive", "mean_negative")


def recompute(
    store: str | os.PathLike[str],
    *,
    layers: Sequence[int] | None = None,
    run: str | None = None,
    model: str | None = None,
    corpora: str | os.PathLike[str] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[Problem, ...]:
    """Measure layers of stored runs again and compare every score with the stored one.

    Parameters
    ----------
    store
        The store's folder.
    layers
        The layers to measure; None for all of each run.
    run
        run_id of the run to measure, or its first digits; None for all runs that were measured, not imported.
    model
        Hub id or folder of the model's weights; None for the name that the run has for it. Their digest must be the
        run's.
    corpora
        A store that holds the corpora, where `store` is without texts; digests must be the same.
    device
        As in `Resources`.
    progress
        Where to report.

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
                revision, seed = _checkpoint(measured)
                report = ingest_model(
                    model or str(measured["model"]),
                    corpus=str(measured["corpus"]),
                    store=again.path,
                    name=str(measured["model"]),
                    revision=revision,
                    random_init=seed,
                    settings=_settings(measured, layers),
                    resources=Resources(device=device),
                    progress=shown,
                )
                problems += _compared(database, again, measured, report.run_id)
            except NeuronlakeError as error:
                problems.append(Problem(f"run {measured['run_id']}", f"cannot be measured: {error}"))
    return tuple(problems)


def _copy_corpus(store: Store, again: Store, run: Mapping[str, object], corpora: str | os.PathLike[str] | None) -> None:
    """Add the corpus of a run to an empty store, from a store that has its texts."""
    source = Store(corpora) if corpora is not None else store
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
    with again.job(name, kind="corpus") as job:
        job.commit_copy(commit, source)


def _checkpoint(run: Mapping[str, object]) -> tuple[str | None, int | None]:
    """Return the revision to load, or the seed of the random initialisation."""
    if isinstance(run["seed"], int):
        return None, run["seed"]
    return None if run["revision"] == "main" else str(run["revision"]), None


def _settings(run: Mapping[str, object], layers: Sequence[int] | None) -> Settings:
    """Return the settings of a run, for some of its layers."""
    names = ("site", "pooling", "router", "dtype", "storage", "max_tokens", "special_tokens", "halves", "min_instances")
    fields = {field.name for field in dataclasses.fields(Settings)}
    stored = {name: run.get(name) for name in names if name in fields and run.get(name) is not None}
    of_run = None if run["layers"] is None else tuple(map(int, str(run["layers"]).split(",")))
    chosen = tuple(layers) if layers is not None else of_run
    if layers is not None and of_run is not None and not {*layers} <= {*of_run}:
        raise IngestError(f"it holds the layers {run['layers']} alone")
    return Settings(**stored, layers=chosen, n_top=0)  # type: ignore[arg-type]


def _compared(database: Database, again: Store, run: Mapping[str, object], run_id: str) -> Iterator[Problem]:
    """Yield what differs between a stored run and the one made again."""
    where = f"run {run['run_id']}"
    with Database(again) as other:
        ((weights, device),) = other.sql("select weights_sha256, device from runs").rows()
        if weights != run["weights_sha256"]:
            yield Problem(where, f"the weights at hand are others: their digest is {weights}")
            return
        scores = other.sql("from neuron_functions").pl()
    tolerance = TOLERANCES[str(run["dtype"])] * (1 if device == run["device"] else 10)
    layers = scores["layer"].unique().to_list()
    query = "from neuron_functions where run_id = $run and list_contains($layers, layer)"
    stored = database.sql(query, {"run": run["run_id"], "layers": layers}).pl()
    both = stored.join(scores, on=_KEYS, how="full", suffix="_again", coalesce=True)
    if both.height != stored.height or both.height != scores.height:
        yield Problem(where, f"{stored.height:,} scores are stored where {scores.height:,} are measured")
    for name in (*_SCORES, *_ACTIVATIONS, "p_value"):
        cells = both.select(*_KEYS, name, f"{name}_again", excess=_excess(name) / tolerance).filter(
            pl.col("excess") > 1
        )
        share = cells.height / max(1, both.height)
        worst = cells.sort("excess").tail(1)
        if cells.is_empty() or (
            name not in _ACTIVATIONS and share <= MOVED_SHARE and worst["excess"][0] <= _MOVED_SCORE
        ):
            continue
        cell = worst.row(0, named=True)
        yield Problem(
            where,
            f"{name} of {cell['stack']} layer {cell['layer']}, neuron {cell['neuron']}, {cell['family']}/"
            f"{cell['function']} is {cell[name]}, measured {cell[f'{name}_again']}, the worst of {cells.height:,} "
            f"({share:.1%}) that differ by more than rounding of {run['dtype']} allows",
        )


def _excess(name: str) -> pl.Expr:
    """Return how far a number is from the one measured again; infinitely, if one is NULL or no p value can be it."""
    stored, again = pl.col(name).cast(pl.Float64), pl.col(f"{name}_again").cast(pl.Float64)
    distance = (stored - again).abs()
    if name in _ACTIVATIONS:
        distance = distance / pl.max_horizontal(stored.abs(), pl.lit(1.0))
    if name == "p_value":
        distance = (stored.log() - again.log()).abs() / 20
    is_one_null = stored.is_null() != again.is_null()
    return pl.when(is_one_null).then(float("inf")).otherwise(distance.fill_null(0.0)).fill_nan(float("inf"))
