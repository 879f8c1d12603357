"""The passes over the texts: the model is read out as it is and in every cell, and the values are kept on disk."""

import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from statistics import fmean

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...ingest.models.devices import explaining_lack_of_memory
from ...progress import Progress
from ...queries.database import Database
from ...queries.statements import statement
from ...schema.commits import neuronlake_version
from ...schema.disk import store_errors
from ...schema.job import Job
from ..effects.resampling import Resampling
from ..readouts.readout import summarize
from .ablation import ablate
from .preparation import Study
from .settings import SHARED
from .sources import Ranking


class CellValues:
    """The values read in cells [functions or 1, instances], in a folder with one file a cell."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, cell_id: str) -> NDArray[np.float32] | None:
        """Return the values of a cell, or None if it was not read yet."""
        try:
            # Opened here, as numpy leaves a file open that is no archive.
            with self._path(cell_id).open("rb") as file, np.load(file) as archive:
                values: NDArray[np.float32] = archive["values"]
        except (FileNotFoundError, zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError):
            return None  # not there, or not written out when the machine went down: it is read again
        return values

    def put(self, cell_id: str, values: NDArray[np.float32]) -> None:
        """Write the values of a cell."""
        path = self._path(cell_id)
        partial = path.with_suffix(".partial")
        with store_errors(f"cannot write {path}"):
            with partial.open("wb") as file:
                np.savez_compressed(file, values=values)
            partial.replace(path)

    def __len__(self) -> int:
        return sum(1 for _ in self._folder.glob("*.npz"))

    def _path(self, cell_id: str) -> Path:
        return self._folder / f"{cell_id}.npz"


def value_targets(functions: Sequence[tuple[str, str]], values: NDArray[np.float32]) -> pl.DataFrame:
    """Return the columns target_family and target_function of the rows of `values`; a single row is `SHARED`."""
    names = functions if len(values) > 1 else [(SHARED, SHARED)]
    return pl.DataFrame(list(names), schema=["target_family", "target_function"], orient="row")


def readable(resampled: NDArray[np.float32], chance: NDArray[np.float64] | None) -> NDArray[np.bool_]:
    """Return which functions are read better than chance: the 95% interval of the readout over texts lies above it.

    `resampled` is the readout in each resample, NaN where it is not defined [resamples, functions].
    """
    if chance is None:
        return np.ones(resampled.shape[1], dtype=np.bool_)
    low: NDArray[np.float64] = np.nanquantile(resampled.astype(np.float64), 0.025, axis=0)
    return low > chance


def known_cells(database: Database, cell_ids: Iterable[str]) -> Mapping[str, str]:
    """Return the cells that studies in the store have read with this version of neuronlake, with the id of a study."""
    parameters = {"version": neuronlake_version(), "cells": list(cell_ids)}
    rows = database.sql(statement("perturbation_known_cells"), parameters).pl()
    return dict(rows.select("cell_id", "perturbation_id").rows())


def earlier_values(
    database: Database,
    cell_ids: Iterable[str],
    baseline: NDArray[np.float32],
    functions: Sequence[tuple[str, str]],
    instance_id: NDArray[np.int64],
) -> Mapping[str, NDArray[np.float32]]:
    """Return the values [functions or 1, instances] of the `known_cells`, by cell_id.

    The store holds only what differs from the baseline: the values of the same functions and instances without an
    ablation.
    """
    known = known_cells(database, cell_ids)
    if not known:
        return {}
    keys = [perturbation_id + cell_id for cell_id, perturbation_id in known.items()]
    stored = database.sql(statement("perturbation_cell_values"), {"keys": keys}).pl()
    columns = pl.DataFrame({"instance_id": instance_id}).with_row_index("column")
    rows = value_targets(functions, baseline).with_row_index("row")
    stored = stored.join(columns, on="instance_id").join(rows, on=["target_family", "target_function"])
    values = {cell_id: baseline.copy() for cell_id in known}
    for (cell_id,), changed in stored.partition_by("cell_id", as_dict=True).items():
        values[str(cell_id)][changed["row"].to_numpy(), changed["column"].to_numpy()] = changed["value"].to_numpy()
    return values


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of all cells of a study, and what its statistics need of them."""

    baseline: NDArray[np.float32]  # values without an ablation [functions or 1, instances]
    cell_ids: Sequence[str]  # the id of each cell of the study
    values: CellValues  # the values of all cells
    is_readable: NDArray[np.bool_]  # the `readable` functions [functions]
    resampling: Resampling  # the texts of the study
    # By cell_id, how much worse values are than in the baseline, summed [texts, functions, strata], and the readouts
    # [functions]
    sums: Mapping[str, NDArray[np.float32]]
    readouts: Mapping[str, NDArray[np.float64]]
    n_known: int  # number of cells that an earlier attempt or study had read
    cell_s: float  # mean wall time of a pass, in seconds


def read_cells(study: Study, job: Job, progress: Progress) -> Reading:
    """Read the model out as it is and in every cell; the job keeps values from one attempt to the next.

    Raises an `AnalysisError` if a cell has values that are not finite, and an `IngestError` if memory does not suffice.
    """
    kept = CellValues(job.folder("cells"))
    try:
        with explaining_lack_of_memory(study.model.name, "batch_tokens", "n_texts"):
            return _read(study, kept, progress)
    except KeyboardInterrupt as error:
        error.add_note(f"{len(kept):,} of {len(study.cells):,} cells are kept; the same command goes on")
        raise


def read_cell(study: Study, cell: Ranking, progress: Progress) -> NDArray[np.float32]:
    """Return the values read while a cell is ablated [functions or 1, instances]; they must be finite."""
    readout, settings = study.readout, study.settings
    with ablate(readout.model, study.neurons(cell), kind=settings.kind, scale=settings.factor, seed=cell.seed):
        values = readout.read(progress.advance)
    n_wrong = int(np.count_nonzero(~np.isfinite(values)))
    if n_wrong:
        raise AnalysisError(
            f"the {readout.kind} of {n_wrong:,} instances is not finite where {len(cell.rows):,} neurons of "
            f"{cell.family}/{cell.function} ({cell.selection}, seed {cell.seed}) are perturbed; perturb fewer, or by "
            "less"
        )
    return values


def _read(study: Study, kept: CellValues, progress: Progress) -> Reading:
    readout, settings, n_texts = study.readout, study.settings, study.texts.read.tokens.n_texts
    ids = [study.cell_id(cell) for cell in study.cells]
    cells = dict(zip(ids, study.cells, strict=True))  # cells of the same neurons, as of two small doses, share a pass
    progress.phase("perturbing", total=(len(cells) + 1) * n_texts, unit="texts")
    started = time.monotonic()
    baseline = readout.read(progress.advance)
    durations = [time.monotonic() - started]
    resampling = Resampling(
        readout.strata,
        readout.text,
        n_bootstrap=settings.n_bootstrap,
        n_permutations=settings.n_permutations,
        seed=settings.seed,
    )
    is_readable = readable(resampling.bootstrap(resampling.reduce(baseline)), readout.chance)
    if not is_readable.all():
        names = ", ".join("/".join(function) for function in compress(readout.functions, ~is_readable))
        progress.note(f"read no better than chance without an ablation, and left out of selectivity: {names}")
    sums: dict[str, NDArray[np.float32]] = {}
    readouts = {study.cell_id(None): summarize(baseline, readout.strata)}
    earlier = earlier_values(study.request.database, ids, baseline, readout.functions, readout.instance_id)
    for cell_id, stored in earlier.items():
        kept.put(cell_id, stored)
    for cell_id, cell in cells.items():
        values = kept.get(cell_id)
        if values is not None:
            progress.advance(n_texts)
        else:
            started = time.monotonic()
            values = read_cell(study, cell, progress)
            durations.append(time.monotonic() - started)
            kept.put(cell_id, values)
        sums[cell_id] = resampling.reduce(values - baseline if readout.is_loss else baseline - values)
        readouts[cell_id] = summarize(values, readout.strata)
    n_known = len(cells) + 1 - len(durations)
    return Reading(baseline, ids, kept, is_readable, resampling, sums, readouts, n_known, fmean(durations))
