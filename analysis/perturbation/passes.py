"""The passes over the texts: the model is read out as it is and in every cell, and the values are kept on disk.

Workers of an engine read cells too; each prepares the study for itself once.
"""

import functools
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from statistics import fmean

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...engines.engine import Engine, SerialEngine, Work
from ...errors import AnalysisError
from ...ingest.models.checkpoint import Checkpoint
from ...ingest.models.devices import explaining_lack_of_memory
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from ...schema.commits import neuronlake_version
from ...schema.disk import store_errors
from ...schema.job import Job
from ..effects.resampling import Resampling
from ..effects.rows import target_names
from ..readouts.readout import summarize
from .ablation import ablate
from .preparation import Study, prepare
from .settings import SHARED, Functions, PerturbationSettings
from .sources import Ranking
from .study import find_request

_Floats = NDArray[np.float32]
# What a worker prepares a study from: store, checkpoint, settings, run_id, corpus and device.
_Asked = tuple[Path, Checkpoint, PerturbationSettings, str, str, str]


class CellValues:
    """The values read in cells [functions or 1, instances], in a folder with one file a cell."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, cell_id: str) -> _Floats | None:
        """Return the values of a cell, or None if it was not read yet."""
        try:
            # Opened here, as numpy leaves a file open that is no archive.
            with self._path(cell_id).open("rb") as file, np.load(file) as archive:
                values: _Floats = archive["values"]
        except (FileNotFoundError, zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError):
            return None  # not there, or not written out when the machine went down: it is read again
        return values

    def put(self, cell_id: str, values: _Floats) -> None:
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


def value_targets(functions: Functions, values: _Floats) -> pl.DataFrame:
    """Return the columns target_family and target_function of the rows of `values`; a single row is `SHARED`."""
    return target_names(functions if len(values) > 1 else [(SHARED, SHARED)])


def readable(resampled: _Floats, chance: NDArray[np.float64] | None) -> NDArray[np.bool_]:
    """Return which functions are read above chance: their 95% interval over resamples, which may be NaN, is."""
    if chance is None:
        return np.ones(resampled.shape[1], dtype=np.bool_)
    low: NDArray[np.float64] = np.nanquantile(resampled.astype(np.float64), 0.025, axis=0)
    return low > chance


def known_cells(database: Database, cell_ids: Iterable[str]) -> Mapping[str, str]:
    """Return the cells that studies in the store have read with this version of neuronlake, with the id of a study."""
    asked = {"version": neuronlake_version(), "cells": list(cell_ids)}
    return dict(database.ask("perturbation_known_cells", **asked).pl().rows())


def earlier_values(
    database: Database, cell_ids: Iterable[str], baseline: _Floats, functions: Functions, instance_id: NDArray[np.int64]
) -> Mapping[str, _Floats]:
    """Return the values [functions or 1, instances] of the `known_cells`; stored is what differs from the baseline."""
    if not (known := known_cells(database, cell_ids)):
        return {}
    keys = [perturbation_id + cell_id for cell_id, perturbation_id in known.items()]
    stored = database.ask("perturbation_cell_values", keys=keys).pl()
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

    baseline: _Floats  # values without an ablation [functions or 1, instances]
    cell_ids: Sequence[str]  # of the cells of the study
    values: CellValues
    is_readable: NDArray[np.bool_]  # the `readable` functions [functions]
    resampling: Resampling  # the texts of the study
    sums: Mapping[str, _Floats]  # by cell_id, how much worse than the baseline [texts, functions, strata]
    readouts: Mapping[str, NDArray[np.float64]]  # by cell_id [functions]
    n_known: int  # number of cells that an earlier attempt or study had read
    cell_s: float  # mean wall time of a pass, in seconds


def read_cells(study: Study, job: Job, device: str, engine: Engine | None, progress: Progress) -> Reading:
    """Read the model out as it is and in every cell; the job keeps values from one attempt to the next."""
    folder = job.folder("cells")
    kept, n_elsewhere = CellValues(folder), 0
    if engine is not None and not isinstance(engine, SerialEngine):
        n_elsewhere = _read_in_workers(study, folder, engine, device, progress)
    try:
        with explaining_lack_of_memory(study.model.name, "batch_tokens", "n_texts"):
            return _read(study, kept, n_elsewhere, progress)
    except KeyboardInterrupt as error:
        error.add_note(f"{len(kept):,} of {len(study.cells):,} cells are kept; the same command goes on")
        raise


def _read_in_workers(study: Study, folder: Path, engine: Engine, device: str, progress: Progress) -> int:
    """Have an engine put into a folder the cells that neither it nor the store has; return how many it read."""
    request, kept = study.request, CellValues(folder)
    places = {study.cell_id(cell): place for place, cell in enumerate(study.cells)}
    known = known_cells(request.database, places)
    tasks = [(place, cell) for cell, place in places.items() if cell not in known and kept.get(cell) is None]
    store, run, corpus = request.database.store.path.absolute(), request.run.run_id, request.corpus.name
    asked = (store, request.checkpoint, study.settings, run, corpus, device)
    do = functools.partial(_read_in_worker, asked, folder.absolute())
    work = Work(tasks=tasks, do=do, unit="cells", label=lambda task: f"cell {task[0]}", device=device)
    return sum(1 for _ in engine.run(work, lambda: nullcontext(progress)))


def _read_in_worker(asked: _Asked, folder: Path, task: tuple[int, str], progress: Progress) -> None:
    """Read the cell at a place of a study, and keep its values."""
    study, (place, wanted_id) = _prepared(asked), task
    cell = study.cells[place]
    if (cell_id := study.cell_id(cell)) != wanted_id:
        problem = f"cell {cell_id} of this worker is {wanted_id} where the study was asked for"
        raise AnalysisError(f"{problem}: their devices or versions differ, and so would their values")
    progress.phase("perturbing", total=study.texts.read.tokens.n_texts, unit="texts")
    CellValues(folder).put(cell_id, _read_cell(study, cell, progress))


@functools.lru_cache(maxsize=1)
def _prepared(asked: _Asked) -> Study:
    store, checkpoint, settings, run, corpus, device = asked
    progress = SilentProgress()  # the process that asks has told it all
    request = find_request(Database(store), checkpoint, settings, run=run, corpus=corpus, progress=progress)
    return prepare(request, device, progress)


def _read_cell(study: Study, cell: Ranking, progress: Progress) -> _Floats:
    """Return the values read while a cell is ablated [functions or 1, instances]; they must be finite."""
    readout, settings = study.readout, study.settings
    with ablate(readout.model, study.neurons(cell), kind=settings.kind, scale=settings.factor, seed=cell.seed):
        values = readout.read(progress.advance)
    if n_wrong := int(np.count_nonzero(~np.isfinite(values))):
        neurons = f"{len(cell.rows):,} neurons of {cell.family}/{cell.function} ({cell.selection}, seed {cell.seed})"
        problem = f"the {readout.kind} of {n_wrong:,} instances is not finite where {neurons} are perturbed"
        raise AnalysisError(f"{problem}; perturb fewer, or by less")
    return values


def _read(study: Study, kept: CellValues, n_elsewhere: int, progress: Progress) -> Reading:
    readout, settings, n_texts = study.readout, study.settings, study.texts.read.tokens.n_texts
    ids = [study.cell_id(cell) for cell in study.cells]
    cells = dict(zip(ids, study.cells, strict=True))  # cells of the same neurons, as of two small doses, share a pass
    progress.phase("perturbing", total=(len(cells) + 1) * n_texts, unit="texts")
    started = time.monotonic()
    baseline = readout.read(progress.advance)
    durations = [time.monotonic() - started]
    sizes = {"n_bootstrap": settings.n_bootstrap, "n_permutations": settings.n_permutations}
    resampling = Resampling(readout.strata, readout.text, seed=settings.seed, **sizes)
    is_readable = readable(resampling.bootstrap(resampling.reduce(baseline)), readout.chance)
    if not is_readable.all():
        names = ", ".join("/".join(function) for function in compress(readout.functions, ~is_readable))
        progress.note(f"read no better than chance without an ablation, and left out of selectivity: {names}")
    sums: dict[str, _Floats] = {}
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
            values = _read_cell(study, cell, progress)
            durations.append(time.monotonic() - started)
            kept.put(cell_id, values)
        sums[cell_id] = resampling.reduce(values - baseline if readout.is_loss else baseline - values)
        readouts[cell_id] = summarize(values, readout.strata)
    n_known = len(cells) + 1 - len(durations) - n_elsewhere
    return Reading(baseline, ids, kept, is_readable, resampling, sums, readouts, n_known, fmean(durations))
