"""A study as rows of the tables that hold it."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch
import transformers
from numpy.typing import NDArray

from ...schema.commits import neuronlake_version
from ...schema.conformance import arrow_schema
from ...schema.job import Job
from ...schema.tables import table
from ..effects.contrast import CellEffect, contrasts
from ..effects.resampling import Resampling
from ..effects.rows import contrast_rows, mean_rows
from ..neuron_rows import KEYS
from ..readouts.readout import summarize
from .preparation import Study
from .settings import SHARED
from .values import CellValues

__all__ = ["Reading", "write_study"]

# Rows of perturbed_instances in a file.
_PART_ROWS = 4_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read in all cells of a study, reduced to what its statistics need.

    Parameters
    ----------
    study
        The study.
    baseline
        Values without a perturbation. [functions or 1, instances]
    cell_ids
        The id of each cell of the study.
    values
        The values of all cells, on disk.
    resampling
        What reduces them.
    damage, readouts
        By cell_id, sums of damage by text [texts, functions, strata], and readouts [functions].
    """

    study: Study
    baseline: NDArray[np.float32]
    cell_ids: Sequence[str]
    values: CellValues
    resampling: Resampling
    damage: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    readouts: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def start(
        cls, study: Study, baseline: NDArray[np.float32], cell_ids: Sequence[str], values: CellValues
    ) -> "Reading":
        """Start with the model as it is."""
        settings, readout = study.settings, study.readout
        resampling = Resampling(
            readout.strata,
            readout.text,
            n_bootstrap=settings.n_bootstrap,
            n_permutations=settings.n_permutations,
            seed=settings.seed,
        )
        return cls(study, baseline, cell_ids, values, resampling)

    def add(self, cell_id: str, values: NDArray[np.float32]) -> None:
        """Take in what was read in a cell. [functions or 1, instances]."""
        worse = values - self.baseline if self.study.readout.is_loss else self.baseline - values
        self.damage[cell_id] = self.resampling.reduce(worse)
        self.readouts[cell_id] = summarize(values, self.study.readout.strata)


def write_study(
    study: Study, reading: Reading, job: Job, *, n_reused: int, cell_s: float | None, started_at: datetime.datetime
) -> None:
    """Stage all tables of a study.

    Parameters
    ----------
    study
        The study.
    reading
        What was read.
    job
        The job, named by the perturbation_id.
    n_reused
        Cells that an earlier attempt or study had made.
    cell_s
        Wall time of a cell.
    started_at
        When the study started.
    """
    _write(study, job, "perturbations", _cells(study, reading))
    _write(study, job, "perturbed_neurons", _neurons(study))
    for part, rows in enumerate(_instances(study, reading)):
        _write(study, job, "perturbed_instances", rows, part=part)
    cells = [
        CellEffect(
            source_family=cell.ranking.family,
            source_function=cell.ranking.function,
            selection=cell.ranking.selection,
            dose=cell.dose,
            seed=cell.ranking.seed,
            sums=reading.damage[cell_id],
        )
        for cell, cell_id in zip(study.cells, reading.cell_ids, strict=True)
    ]
    found = list(contrasts(reading.resampling, cells, study.readout.functions))
    _write(study, job, "perturbation_contrasts", contrast_rows(found))
    _write(study, job, "perturbation_means", mean_rows(found))
    # Last, as the duration is of all.
    settings, readout, subject = study.settings, study.readout, study.subject
    seconds = (datetime.datetime.now(datetime.UTC) - started_at).total_seconds()
    described = {
        "run_id": study.run.run_id,
        "weights_sha256": study.model.weights_sha256,
        "corpus": subject.corpus.name,
        "corpus_sha256": subject.corpus.sha256,
        "selection": settings.selection,
        "partition_id": study.partition_id,
        "source_query": settings.query,
        "kind": settings.kind,
        "scale": settings.factor,
        "readout": readout.kind,
        "metric": readout.metric,
        "layers": None if settings.layers is None else ",".join(map(str, settings.layers)),
        "n_layer_neurons": len(study.population),
        "n_sources": study.n_sources,
        "n_targets": len(readout.functions),
        "n_seeds": settings.n_seeds,
        "n_texts": study.n_texts,
        "n_instances": len(readout.instance_id),
        "n_fitted_texts": readout.n_fitted_texts,
        "max_tokens": study.max_tokens,
        "batch_tokens": subject.batch_tokens,
        "dtype": study.run.dtype,
        "n_bootstrap": settings.n_bootstrap,
        "n_permutations": settings.n_permutations,
        "seed": settings.seed,
        "n_cells": len(study.cells) + 1,
        "n_cells_reused": n_reused,
        "cell_s": cell_s,
        "device": next(study.model.module.parameters()).device.type,
        "neuronlake_version": neuronlake_version(),
        "torch_version": torch.__version__,
        "transformers_version": transformers.__version__,
        "started_at": started_at,
        "duration_s": seconds,
    }
    _write(study, job, "perturbation_studies", pl.DataFrame([described], infer_schema_length=None))


def _cells(study: Study, reading: Reading) -> pl.DataFrame:
    """Return one row a cell and function, the one without a perturbation first."""
    readout, population = study.readout, study.population
    baseline = summarize(reading.baseline, readout.strata)
    n_instances = (readout.strata >= 0).sum(axis=1)
    total = population.energy.sum()
    targets = {
        "target_family": [family for family, _ in readout.functions],
        "target_function": [function for _, function in readout.functions],
        "baseline": baseline,
        "n_instances": n_instances,
    }
    none = {
        "source_family": SHARED, "source_function": SHARED, "selection": "none", "dose": 0.0, "seed": 0,
        "cell_id": study.cell_id(None), "n_neurons": 0, "n_functional": None, "energy_share": 0.0,
    }  # fmt: skip
    frames = [pl.DataFrame(targets | {"perturbed": baseline}).with_columns(**_literals(none))]
    for cell, cell_id in zip(study.cells, reading.cell_ids, strict=True):
        ranking = cell.ranking
        keys = {
            "source_family": ranking.family,
            "source_function": ranking.function,
            "selection": ranking.selection,
            "dose": cell.dose,
            "seed": ranking.seed,
            "cell_id": cell_id,
            "n_neurons": cell.n_neurons,
            "n_functional": None if ranking.n_functional is None else min(ranking.n_functional, cell.n_neurons),
            "energy_share": float(population.energy[cell.rows].sum() / total),
        }
        frames.append(pl.DataFrame(targets | {"perturbed": reading.readouts[cell_id]}).with_columns(**_literals(keys)))
    sign = 1.0 if readout.is_loss else -1.0
    constants = {
        "run_id": study.run.run_id,
        "partition_id": study.partition_id,
        "source_query": study.settings.query,
        "kind": study.settings.kind,
        "scale": study.settings.factor,
        "readout": readout.kind,
        "metric": readout.metric,
    }
    rows = pl.concat(frames, how="vertical_relaxed").with_columns(**_literals(constants))
    return rows.with_columns(effect=sign * (pl.col("perturbed") - pl.col("baseline")))


def _neurons(study: Study) -> pl.DataFrame:
    most: dict[int, int] = {}
    for cell in study.cells:
        most[id(cell.ranking)] = max(most.get(id(cell.ranking), 0), cell.n_neurons)
    frames = []
    for ranking in study.rankings:
        n = most.get(id(ranking), 0)
        keys = {
            "source_family": ranking.family,
            "source_function": ranking.function,
            "selection": ranking.selection,
            "seed": ranking.seed,
        }
        chosen = study.population.neurons[ranking.rows[:n]].select(KEYS)
        frames.append(chosen.with_columns(rank=pl.int_range(1, n + 1, dtype=pl.Int32), **_literals(keys)))
    return pl.concat(frames)


def _instances(study: Study, reading: Reading) -> Iterator[pl.DataFrame]:
    """Yield what was read without a perturbation, and what each cell changed of it, some cells at a time."""
    readout = study.readout
    is_shared = len(reading.baseline) == 1
    names = [(SHARED, SHARED)] if is_shared else list(readout.functions)
    family = pl.Series([family for family, _ in names])
    function = pl.Series([function for _, function in names])
    baseline_id = study.cell_id(None)

    def rows(cell_id: str, values: NDArray[np.float32], is_listed: NDArray[np.bool_]) -> pl.DataFrame:
        row, column = np.nonzero(is_listed)
        frame = pl.DataFrame(
            {
                "target_family": family[row],
                "target_function": function[row],
                "instance_id": readout.instance_id[column],
                "value": values[row, column],
            }
        )
        is_positive = pl.lit(None, dtype=pl.Boolean) if is_shared else pl.Series(readout.strata[row, column] == 1)
        return frame.with_columns(cell_id=pl.lit(cell_id), is_positive=is_positive)

    # Shared values are one row; an instance is read if it is of any function.
    is_read = (readout.strata.max(axis=0)[None] if is_shared else readout.strata) >= 0
    frames = [rows(baseline_id, reading.baseline, is_read)]
    for cell_id in dict.fromkeys(reading.cell_ids):
        values = reading.values.get(cell_id)
        assert values is not None  # put there when it was read
        frames.append(rows(cell_id, values, is_read & (values != reading.baseline)))
        if sum(frame.height for frame in frames) > _PART_ROWS:
            yield pl.concat(frames)
            frames = []
    if frames:
        yield pl.concat(frames)


def _literals(values: Mapping[str, object]) -> dict[str, pl.Expr]:
    return {name: pl.lit(value) for name, value in values.items()}


def _write(study: Study, job: Job, name: str, rows: pl.DataFrame, *, part: int = 0) -> None:
    schema = arrow_schema(table(name))
    keys = {
        "perturbation_id": study.perturbation_id,
        "model": study.model.name,
        "revision": study.model.revision,
        "step": study.model.step,
    }
    arrow = rows.with_columns(**_literals(keys)).to_arrow().select(schema.names)
    job.write(name, arrow.cast(schema), part=part, model=study.model.name, revision=study.model.revision)
