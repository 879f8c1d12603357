"""A study as rows of the tables that hold it."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import compress
from typing import Any

import numpy as np
import polars as pl
import torch
import transformers
from numpy.typing import NDArray

from ...schema.commits import neuronlake_version
from ...schema.conformance import conform
from ...schema.job import Job
from ...schema.tables import table
from ..effects.contrast import CellEffect, contrasts
from ..effects.rows import contrast_rows, mean_rows, target_names
from ..neuron_rows import KEYS
from .passes import Reading, value_targets
from .preparation import Study
from .settings import SHARED
from .sources import Ranking, most_held

_PART_ROWS = 4_000_000  # of perturbed_instances in a file


def write_study(study: Study, reading: Reading, job: Job, *, started_at: datetime.datetime) -> None:
    """Stage all tables of a study in a job that is named by the perturbation_id."""
    model = study.model
    keys = {"perturbation_id": job.name, "model": model.name, "revision": model.revision, "step": model.step}

    def write(name: str, rows: pl.DataFrame | Sequence[Mapping[str, object]], part: int = 0) -> None:
        job.write(name, conform(name, rows, **keys), part=part, model=model.name, revision=model.revision)

    # In the row of the study and of each of its cells: what was done and read out.
    settings, readout, request = study.settings, study.readout, study.request
    definition: dict[str, object] = {"run_id": request.run.run_id, "partition_id": request.partition_id}
    definition |= {"source_query": settings.query, "kind": settings.kind, "scale": settings.factor}
    definition |= {"readout": readout.kind, "metric": readout.metric}
    constants = {name: pl.lit(value) for name, value in definition.items()}
    write("perturbations", _cells(study, reading).with_columns(**constants))
    write("perturbed_neurons", _neurons(study))
    for part, rows in enumerate(_instances(study, reading)):
        write("perturbed_instances", rows, part)
    cells = [
        CellEffect(**_keys(cell), dose=cell.dose, neurons=cell.rows, sums=reading.sums[cell_id], energy=energy)
        for cell, cell_id in compress(zip(study.cells, reading.cell_ids, strict=True), study.is_compared)
        for energy in [float(study.population.energy[cell.rows].sum())]
    ]
    compared = list(contrasts(reading.resampling, cells, study.readout.functions, reading.is_readable))
    write("perturbation_contrasts", contrast_rows(compared))
    write("perturbation_means", mean_rows(compared))
    # Last, as the duration is of all.
    timing: dict[str, object] = {"n_cells_reused": reading.n_known, "cell_s": reading.cell_s, "started_at": started_at}
    timing["duration_s"] = (datetime.datetime.now(datetime.UTC) - started_at).total_seconds()
    write("perturbation_studies", [_description(study) | definition | study.counts | timing])


def _keys(ranking: Ranking) -> dict[str, Any]:
    """Return the columns that name a ranking."""
    return dict(zip(("source_family", "source_function", "selection", "seed"), ranking.key, strict=True))


def _description(study: Study) -> dict[str, object]:
    """Return the columns that describe a study; those not listed here have the names of its settings."""
    settings, corpus = study.settings, study.texts.corpus
    names = table("perturbation_studies").column_names
    return {name: value for name, value in asdict(settings).items() if name in names} | {
        "weights_sha256": study.model.weights_sha256,
        "corpus": corpus.name,
        "corpus_sha256": corpus.sha256,
        "selection": settings.selection,
        "ranking": None if settings.query is not None else settings.ranking,
        "layers": None if settings.layers is None else ",".join(map(str, settings.layers)),
        "n_layer_neurons": len(study.population),
        "n_fitted_texts": study.readout.n_fitted_texts,
        "max_tokens": study.request.max_tokens,
        "dtype": study.request.run.dtype,
        "n_cells": len(study.cells) + 1,
        "device": next(study.model.module.parameters()).device.type,
        "neuronlake_version": neuronlake_version(),
        "torch_version": torch.__version__,
        "transformers_version": transformers.__version__,
    }


def _cells(study: Study, reading: Reading) -> pl.DataFrame:
    """Return one row for each cell and function, the cell without an ablation first."""
    readout, energy = study.readout, study.population.energy
    none = Ranking(SHARED, SHARED, "none", np.zeros(0, dtype=np.int64))
    cell_ids = [study.cell_id(None), *reading.cell_ids]
    rows = [
        {
            **_keys(cell),
            "dose": cell.dose,
            "cell_id": cell_id,
            "n_neurons": len(cell.rows),
            "n_functional": cell.n_functional,
            "energy_share": float(energy[cell.rows].sum() / energy.sum()),
            "overlap_source": overlap_source if share else None,
            "overlap_share": share or None,
        }
        for cell, cell_id in zip([none, *study.cells], cell_ids, strict=True)
        for overlap_source, share in [most_held(study.cells, cell)]
    ]
    baseline, n_instances = pl.Series(reading.readouts[cell_ids[0]]), pl.Series((readout.strata >= 0).sum(axis=1))
    targets = target_names(readout.functions).with_columns(baseline=baseline, n_instances=n_instances)
    cells = pl.DataFrame(rows, infer_schema_length=None).join(targets, how="cross", maintain_order="left_right")
    cells = cells.with_columns(perturbed=np.concatenate([reading.readouts[cell_id] for cell_id in cell_ids]))
    effect = pl.col("perturbed") - pl.col("baseline")
    return cells.with_columns(effect=effect if readout.is_loss else -effect)


def _neurons(study: Study) -> pl.DataFrame:
    """Return the neurons of each ranking, up to its largest cell."""
    most = {cell.key: len(cell.rows) for cell in sorted(study.cells, key=lambda cell: cell.dose)}
    frames = []
    for ranking in study.rankings:
        names = {name: pl.lit(value) for name, value in _keys(ranking).items()}
        chosen = study.population.neurons[ranking.rows[: most.get(ranking.key, 0)]].select(KEYS)
        frames.append(chosen.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32), **names))
    return pl.concat(frames)


def _instances(study: Study, reading: Reading) -> Iterator[pl.DataFrame]:
    """Yield, some cells at a time, the values of the baseline, and those values of each cell that differ from it."""
    readout, baseline = study.readout, reading.baseline
    is_shared = len(baseline) == 1
    targets = value_targets(readout.functions, baseline)

    def rows(cell_id: str, values: NDArray[np.float32], is_listed: NDArray[np.bool_]) -> pl.DataFrame:
        row, column = np.nonzero(is_listed)
        return targets[row].with_columns(
            cell_id=pl.lit(cell_id),
            instance_id=pl.Series(readout.instance_id[column]),
            is_positive=pl.lit(None, dtype=pl.Boolean) if is_shared else pl.Series(readout.strata[row, column] == 1),
            value=pl.Series(values[row, column]),
        )

    # Shared values are one row; an instance is listed if it counts for any function.
    is_read = (readout.strata.max(axis=0)[None] if is_shared else readout.strata) >= 0
    frames = [rows(study.cell_id(None), baseline, is_read)]
    for cell_id in dict.fromkeys(reading.cell_ids):
        values = reading.values.get(cell_id)
        assert values is not None  # put there when it was read
        frames.append(rows(cell_id, values, is_read & (values != baseline)))
        if sum(frame.height for frame in frames) > _PART_ROWS:
            yield pl.concat(frames)
            frames = []
    if frames:
        yield pl.concat(frames)
