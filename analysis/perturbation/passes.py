"""The passes over the texts: the model as it is, and in every cell of a study."""

import time

import numpy as np

from ...errors import AnalysisError
from ...ingest.models.devices import explaining_lack_of_memory
from ...progress import Progress
from ...schema.job import Job
from .intervention import perturb
from .preparation import Study
from .rows import Reading
from .values import CellValues, earlier_values

__all__ = ["read_cells"]


def read_cells(study: Study, job: Job, progress: Progress) -> tuple[Reading, int, float | None]:
    """Read the model out as it is and in every cell.

    Returns
    -------
    reading
        What was read.
    n_known
        Cells that an earlier attempt or study had read.
    cell_s
        Seconds of a cell, None if none was read.

    Raises
    ------
    AnalysisError
        If a cell leaves values that are not finite.
    IngestError
        If memory does not suffice.
    StoreError
        If the disk refuses.
    """
    values = CellValues(job.folder("cells"))
    try:
        with explaining_lack_of_memory(study.model.name, "batch_tokens", "n_texts"):
            return _read(study, values, progress)
    except KeyboardInterrupt as error:
        error.add_note(f"{len(values):,} of {len(study.cells):,} cells are kept; the same command goes on")
        raise


def _read(study: Study, values: CellValues, progress: Progress) -> tuple[Reading, int, float | None]:
    readout = study.readout
    ids = [study.cell_id(cell) for cell in study.cells]
    progress.phase("perturbing", total=(len(set(ids)) + 1) * study.n_texts, unit="texts")
    started = time.monotonic()
    baseline = readout.read(progress.advance)
    n_made, n_known = 1, 0
    seconds = time.monotonic() - started
    reading = Reading.start(study, baseline, ids, values)
    earlier = earlier_values(study.database, ids, baseline, readout.functions, readout.instance_id)
    for cell, cell_id in zip(study.cells, ids, strict=True):
        if cell_id in reading.damage:
            continue  # the same neurons, as where all doses take the same
        found = values.get(cell_id)
        if found is None:
            found = earlier.get(cell_id)
        if found is not None:
            n_known += 1
            progress.advance(study.n_texts)
        else:
            started = time.monotonic()
            kind, scale = study.settings.kind, study.settings.factor
            with perturb(readout.model, study.neurons(cell), kind=kind, scale=scale, seed=cell.ranking.seed):
                found = readout.read(progress.advance)
            seconds += time.monotonic() - started
            n_made += 1
            n_wrong = int(np.count_nonzero(~np.isfinite(found)))
            if n_wrong:
                ranking = cell.ranking
                raise AnalysisError(
                    f"the {readout.kind} of {n_wrong:,} instances is not finite where {cell.n_neurons:,} neurons of "
                    f"{ranking.family}/{ranking.function} ({ranking.selection}, seed {ranking.seed}) are perturbed; "
                    "perturb fewer, or by less"
                )
        values.put(cell_id, found)
        reading.add(cell_id, found)
    return reading, n_known, seconds / n_made
