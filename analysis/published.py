"""Results that others published, as a run and a partition of ours: every view then works on them."""

import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl

from ..errors import AnalysisError, check_known, one_line
from ..ingest.neurons.feed_forwards import Stack
from ..schema.commits import neuronlake_version
from ..schema.conformance import arrow_schema, conform
from ..schema.names import IDENTITY_VERSION, check_name, file_sha256, identifier
from ..schema.store import Store
from ..schema.tables import table
from .neuron_rows import KEYS
from .partitions.stored import Division, Origin, by_layer, write_partition

_FUNCTION = ("family", "function")
_TYPES = {**pl.Schema(arrow_schema(table("experts"))), **pl.Schema(arrow_schema(table("neuron_functions")))}


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What `import_scores` added."""

    run_id: str  # holds the scores
    partition_id: str | None  # None if no column of experts was named
    is_new: bool  # False if the store already held both, so that nothing was done
    n_layers: int
    n_neurons: int
    n_functions: int
    n_experts: int  # in each layer, the most where layers differ; 0 without a partition

    def describe(self) -> str:
        """Return what was added as one line."""
        line = f"run {self.run_id}: {self.n_neurons:,} neurons in {self.n_layers} layers x {self.n_functions} functions"
        if self.partition_id is not None:
            line += f"; partition {self.partition_id} of {self.n_experts} experts a layer"
        return line if self.is_new else f"{line}; already in the store, nothing done"


def import_scores(
    path: str | os.PathLike[str],
    *,
    store: str | os.PathLike[str],
    model: str,
    score: str,
    revision: str = "main",
    step: int | None = None,
    stack: str | None = None,
    family: str | None = None,
    function: str | None = None,
    partition: str | None = None,
) -> ImportReport:
    """Add neurons' scores that were computed elsewhere, and the experts the neurons are in.

    The file has one row a neuron (and function), with integer columns ``layer`` and ``neuron``. It must hold every
    neuron of a layer, from 0 on: the top 1% of a part would not be that of the layer.

    Parameters
    ----------
    path, store
        A Parquet or CSV file, and the store's folder.
    model, revision, step
        The checkpoint that the neurons belong to.
    score
        Column of the score. It is stored as `ap` and ranked as it is: no prevalence is known, and so no lift.
    stack, family, function
        encoder or decoder, and what the score is for; None reads the column of this name.
    partition
        Column of the expert each neuron is in; None if there is none.

    Raises
    ------
    AnalysisError
        If the file cannot be read, a value is missing or repeated, or a layer is not whole; the store is unchanged.
    UnknownNameError, StoreError
        If a column is not there, or a stack is neither of the two; if the store cannot be written.

    Examples
    --------
    >>> report = neuronlake.import_scores(
    ...     "published.csv", store="neuronlake-store", model="theirs", score="score",
    ...     stack="encoder", family="task", function="animal",
    ... )
    >>> report.n_neurons
    4
    """
    check_name("model", model)
    check_name("revision", revision)
    file = Path(path)
    constants = {"stack": stack, "family": family, "function": function}
    rows = _read(file).with_columns(**{name: pl.lit(value) for name, value in constants.items() if value is not None})
    rows = _checked(rows, file, score, partition)
    source = {"source": file.name, "source_sha256": file_sha256(file)}
    keys = {"model": model, "revision": revision, "step": step}
    origin = {"schema_version": IDENTITY_VERSION, "source_sha256": source["source_sha256"], **keys}
    run_id = identifier({**origin, **constants, "score": score})
    target = Store(store)
    is_new = target.commit(run_id) is None
    layers = rows.group_by("stack", "layer").agg(n_neurons=pl.col("neuron").n_unique()).sort("stack", "layer")
    if is_new:
        run: dict[str, object] = {"measurement": "imported", "started_at": datetime.datetime.now(datetime.UTC)}
        run |= {"neuronlake_version": neuronlake_version(), "python_version": platform.python_version()}
        run |= {"duration_s": 0.0, **source}
        scores = rows.select(*KEYS, *_FUNCTION, "ap")
        with target.job(run_id, kind="run", resume=False) as job:
            for name, data in (("runs", [run]), ("layers", layers), ("neuron_functions", scores)):
                job.write(name, conform(name, data, run_id=run_id, **keys), model=model, revision=revision)
            job.commit()
    partition_id, n_experts = None, 0
    if partition is not None:
        # Of one file and column there is one partition, whichever scores are imported beside it.
        partition_id = identifier({**origin, "partition": partition, "stack": stack})
        layers_of_experts = by_layer(rows.select(*KEYS, "expert").unique())
        divisions = {key: Division(each["neuron"], each["expert"]) for key, each in layers_of_experts.items()}
        n_experts = max(len(np.unique(division.labels)) for division in divisions.values())
        if target.commit(partition_id) is None:
            is_new, parameters = True, json.dumps({**source, "column": partition})
            described = {"method": "imported", "parameters": parameters, "duration_s": 0.0}
            with target.job(partition_id, kind="partition", resume=False) as job:
                write_partition(job, Origin(model, revision, step), described, divisions)
                job.commit()
    return ImportReport(
        run_id=run_id,
        partition_id=partition_id,
        is_new=is_new,
        n_layers=layers.height,
        n_neurons=int(layers["n_neurons"].sum()),
        n_functions=rows.select(_FUNCTION).unique().height,
        n_experts=n_experts,
    )


def _read(file: Path) -> pl.DataFrame:
    is_csv = file.suffix.lower() == ".csv"
    if not is_csv and file.suffix.lower() != ".parquet":
        raise AnalysisError(f"{file} is neither .parquet nor .csv")
    try:
        # All rows of a CSV decide a column's type: a score may be a whole number in the first hundred.
        return pl.read_csv(file, glob=False, infer_schema_length=None) if is_csv else pl.read_parquet(file, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise AnalysisError(f"cannot read {file}: {one_line(error)}") from error


def _checked(rows: pl.DataFrame, file: Path, score: str, partition: str | None) -> pl.DataFrame:
    """Return the columns an import needs, in the store's names, types and order; raise if a layer is not whole."""
    columns = {name: name for name in (*KEYS, *_FUNCTION)} | {"ap": score}
    if partition is not None:
        columns["expert"] = partition
    check_known("column", columns.values(), rows.columns, where=file)
    if rows.is_empty():
        raise AnalysisError(f"{file} has no rows")
    typed = [_typed(rows[column].alias(name), f"{file}: column {column}") for name, column in columns.items()]
    rows = pl.DataFrame(typed)
    check_known("stack", sorted(rows["stack"].unique()), get_args(Stack), where=file)
    if (rows["function"] == "*").any():
        raise AnalysisError(f"{file}: column function holds '*', which stands for all functions of a family")
    rows = rows.sort(*KEYS, *_FUNCTION)
    _check_grain(rows, [*KEYS, *_FUNCTION], file, f"column {score}")
    if partition is not None:
        _check_grain(rows.select(*KEYS, "expert").unique(maintain_order=True), KEYS, file, f"column {partition}")
    sizes = rows.group_by("stack", "layer", *_FUNCTION).agg(n=pl.len(), last=pl.col("neuron").max())
    # All functions of a layer are of the same neurons.
    whole = sizes.with_columns(last=pl.col("last").max().over("stack", "layer"))
    short = whole.filter(pl.col("n") != pl.col("last") + 1).sort("stack", "layer", *_FUNCTION)
    for stack, layer, family, function, n, last in short.head(1).rows():
        problem = f"{file}: {stack} layer {layer} has {n:,} neurons for {family}/{function}"
        raise AnalysisError(f"{problem}, but neuron {last} is among them; every neuron from 0 on is needed")
    return rows


def _typed(values: pl.Series, what: str) -> pl.Series:
    """Return a column in the type that the store has for its name; raise unless all values fit."""
    expected = _TYPES[values.name]
    is_whole = values.dtype.is_integer() or (values.dtype.is_float() and bool((values == values.round()).all()))
    if expected.is_integer() and not is_whole:
        raise AnalysisError(f"{what} is {values.dtype}; it must hold whole numbers")
    if expected.is_float() and not values.dtype.is_numeric():
        raise AnalysisError(f"{what} is {values.dtype}; it must hold numbers")
    try:
        typed = values.cast(expected)
    except pl.exceptions.PolarsError as error:
        raise AnalysisError(f"{what}: {one_line(error)}") from error
    wrong = ~typed.is_finite().fill_null(False) if expected.is_numeric() else typed.is_null() | (typed == "")
    if wrong.any():
        raise AnalysisError(f"{what}: no value at row {wrong.arg_max()}, counted from 0")
    if expected.is_integer() and (typed < 0).any():
        raise AnalysisError(f"{what} holds negative numbers")
    return typed


def _check_grain(rows: pl.DataFrame, grain: Sequence[str], file: Path, what: str) -> None:
    for row in rows.filter(rows.select(grain).is_duplicated()).head(1).iter_rows(named=True):
        values = ", ".join(f"{name} {row[name]}" for name in grain)
        raise AnalysisError(f"{file}: {what} has several values for {values}")
