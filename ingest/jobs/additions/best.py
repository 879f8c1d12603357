"""What comes first by the scores of runs that lack it, as those do that an older neuronlake or another tool made."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ....progress import Progress, SilentProgress
from ....schema import parquet
from ....schema.commits import Commit, CommittedFile
from ....schema.conformance import conform
from ....schema.job import Job
from ....schema.store import Store
from ...scores.best import HALVES, SCORE_NAMES, Chance, Ranked

_RUN = ("run_id", "model", "revision", "step")
_SORTED = ("neuron", "family", "function")
_COUNTS = tuple(f"n_{of}{half}" for of in ("positive", "negative") for half in HALVES)

_Counts = Mapping[tuple[str, str], NDArray[np.int64]]  # positives and negatives of a function [2, 3]


def add_best(store: str | os.PathLike[str], *, progress: Progress | None = None) -> tuple[str, ...]:
    """Write ``neuron_best`` and ``function_top_neurons`` of the runs that lack them, from their stored scores.

    Views answer without them too, but read all scores of such runs. The model is not needed, and nothing that is stored
    changes.

    Parameters
    ----------
    store, progress
        The store's folder, and where to report.

    Returns
    -------
    tuple of str
        The run_ids of the runs that lacked them. Runs that lack scores of some neurons, as imported ones may, are left
        out and noted.

    Raises
    ------
    StoreError
        If the store cannot be read or written.

    Examples
    --------
    >>> neuronlake.add_best("neuronlake-store")  # its runs were measured with them
    ()
    """
    target, shown = Store(store), progress or SilentProgress()
    commits = target.commits()
    listed = {commit.job for commit in commits if _files(commit, "function_top_neurons")}
    lacking = [commit for commit in commits if not {commit.job, f"best-{commit.job}"} & listed]
    if n_scores := sum(file.n_rows for commit in lacking for file in _files(commit)):
        shown.phase("ranking", total=n_scores, unit="scores")
    added = []
    for commit in filter(_files, lacking):
        counts = _counts(target, commit.job)
        try:
            with target.job(f"best-{commit.job}", kind="best") as job:
                for part, file in enumerate(_files(commit)):
                    if not all(job.is_staged(name, part) for name in ("neuron_best", "function_top_neurons")):
                        _write(job, part, target.locate(file), counts)
                    shown.advance(file.n_rows)
                job.commit()
        except _IncompleteError as error:
            shown.note(f"run {commit.job} {error}: views compute what comes first in it")
        else:
            added.append(commit.job)
    return tuple(added)


class _IncompleteError(Exception):
    """A layer lacks scores of some neurons for some functions."""


def _files(commit: Commit, table: str = "neuron_functions") -> list[CommittedFile]:
    return [file for file in commit.files if file.table == table]


def _counts(store: Store, run_id: str) -> _Counts:
    """Return the instances of each function of a run; of imported results they are unknown, and none is there."""
    files = store.files("run_functions", job=run_id)
    columns = parquet.read(files, ("family", "function", *_COUNTS)).to_pydict()
    counts = np.array([columns[name] for name in _COUNTS], np.int64).T.reshape(-1, 2, 3)
    return dict(zip(zip(columns["family"], columns["function"], strict=True), counts, strict=True))


def _write(job: Job, part: int, path: Path, counts: _Counts) -> None:
    rows = pl.DataFrame(parquet.read((path,), (*_RUN, "stack", "layer", *_SORTED, "p_value", *SCORE_NAMES)))
    tables: dict[str, list[pa.Table]] = {"neuron_best": [], "function_top_neurons": []}
    for layer in rows.partition_by("stack", "layer", maintain_order=True):
        layer = layer.sort(_SORTED)
        functions = layer.select("family", "function").unique().sort("family", "function").rows()
        n_neurons = layer["neuron"].n_unique()
        if layer.height != n_neurons * len(functions) or layer["neuron"].max() != n_neurons - 1:
            where = f"{layer['stack'][0]} layer {layer['layer'][0]}"
            raise _IncompleteError(f"lacks scores of some neurons of {where} for some functions")
        values = layer.select(pl.col(*SCORE_NAMES, "p_value").cast(pl.Float32).fill_null(np.nan)).to_numpy()
        values = values.reshape(n_neurons, len(functions), -1)
        unknown = np.zeros((2, 3), np.int64)
        positive, negative = np.stack([counts.get(function, unknown) for function in functions], axis=-1)
        ranked = Ranked(functions, values[:, :, :-1], values[:, :, -1], Chance.of(positive, positive + negative))
        keys = {name: layer[name][0] for name in (*_RUN, "stack", "layer")}
        tables["neuron_best"].append(conform("neuron_best", ranked.best(), **keys))
        tables["function_top_neurons"].append(conform("function_top_neurons", ranked.top(), **keys))
    for name, layers in tables.items():
        job.write(name, pa.concat_tables(layers), part=part, model=keys["model"], revision=keys["revision"])
