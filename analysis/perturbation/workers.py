"""The cells of a study read by workers of an engine, each of which prepares the study for itself once."""

import functools
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ...engines.engine import Engine, Work
from ...errors import AnalysisError
from ...ingest.models.checkpoint import Checkpoint
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from .passes import CellValues, known_cells, read_cell
from .preparation import Study, prepare
from .request import find_request
from .settings import PerturbationSettings
from .sources import Ranking


@dataclass(frozen=True, slots=True)
class _StudyOf:
    """What a worker prepares a study from."""

    store: Path
    checkpoint: Checkpoint
    settings: PerturbationSettings
    run: str
    corpus: str
    device: str


@dataclass(frozen=True, slots=True)
class _Task:
    """A cell to read, and the folder for its values."""

    study: _StudyOf
    place: int  # of the cell among those of the study
    cell_id: str
    folder: Path

    def __str__(self) -> str:
        return f"cell {self.place}"


def read_in_workers(study: Study, folder: Path, engine: Engine, device: str, progress: Progress) -> int:
    """Have an engine read the cells whose values are neither in a folder nor in the store; return how many it read.

    It leaves the values in the folder.
    Raises `AnalysisError` as `passes.read_cells`, or if a worker's machine would give other values than this one.
    """
    request, kept = study.request, CellValues(folder)
    cells: Mapping[str, Ranking] = {study.cell_id(cell): cell for cell in study.cells}
    known = known_cells(request.database, cells)
    places = {study.cell_id(cell): place for place, cell in enumerate(study.cells)}
    run, corpus = request.run.run_id, request.corpus.name
    of = _StudyOf(request.database.store.path.absolute(), request.checkpoint, study.settings, run, corpus, device)
    tasks = [
        _Task(of, places[cell_id], cell_id, folder.absolute())
        for cell_id in cells
        if cell_id not in known and kept.get(cell_id) is None
    ]
    work = Work(tasks=tasks, do=_read, unit="cells", device=device)
    return sum(1 for _ in engine.run(work, lambda: nullcontext(progress)))


def _read(task: _Task, progress: Progress) -> None:
    """Read a cell in a worker and keep its values."""
    study = _prepared(task.study)
    cell = study.cells[task.place]
    if (cell_id := study.cell_id(cell)) != task.cell_id:
        raise AnalysisError(
            f"cell {cell_id} of this worker is {task.cell_id} where the study was asked for: their devices or versions "
            "differ, and so would their values"
        )
    progress.phase("perturbing", total=study.texts.read.tokens.n_texts, unit="texts")
    CellValues(task.folder).put(cell_id, read_cell(study, cell, progress))


@functools.lru_cache(maxsize=1)
def _prepared(of: _StudyOf) -> Study:
    progress = SilentProgress()  # the process that asks has told it all
    request = find_request(
        Database(of.store), of.checkpoint, of.settings, run=of.run, corpus=of.corpus, progress=progress
    )
    return prepare(request, of.device, progress)
