"""The tables of a study of emergence."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa

from ...schema.conformance import arrow_schema
from ...schema.job import Job
from ...schema.tables import table
from .agreement import Agreement, agreement
from .lineages import Lineage
from .series import MeasuredCheckpoint, Series
from .tracks import follow, shared_with_track

__all__ = ["write_study"]

_Row = dict[str, Any]


def write_study(job: Job, described: _Row, series: Series, lineages: Sequence[Lineage]) -> None:
    """Stage a study: its own row, its partitions, how much they agree, and its experts followed.

    Parameters
    ----------
    job
        A job named by the emergence_id.
    described
        The columns of ``emergence_studies`` that only the caller knows.
    series
        The checkpoints.
    lineages
        Their partitions.
    """
    last = series.last
    study = {
        "emergence_id": job.name,
        "model": series.model,
        "last_run_id": last.run_id,
        "corpus": series.corpus,
        "n_checkpoints": len(series.checkpoints),
        "first_step": series.checkpoints[0].step,
        "last_step": last.step,
        **described,
    }
    for name, rows in (
        ("emergence_studies", [study]),
        ("emergence_partitions", list(_partition_rows(series, lineages))),
        ("partition_changes", list(_change_rows(series, lineages))),
        ("expert_tracks", list(_track_rows(series, lineages))),
    ):
        declared = table(name)
        keyed = [{**row, "emergence_id": job.name, "model": series.model} for row in rows]
        keyed.sort(key=lambda row: tuple(row[column] for column in declared.grain))
        if keyed:
            job.write(name, pa.Table.from_pylist(keyed, schema=arrow_schema(declared)), model=series.model)


def _keys(lineage: Lineage, checkpoint: MeasuredCheckpoint) -> _Row:
    return {
        "role": lineage.role,
        "seed": lineage.seed,
        "revision": checkpoint.revision,
        "step": checkpoint.step,
    }


def _partition_rows(series: Series, lineages: Sequence[Lineage]) -> Iterator[_Row]:
    for lineage in lineages:
        for checkpoint, partition in zip(series.checkpoints, lineage.partitions, strict=True):
            if lineage.is_remade or checkpoint is series.last:
                keys = _keys(lineage, checkpoint)
                yield {**keys, "run_id": checkpoint.run_id, "partition_id": partition.partition_id}


def _change_rows(series: Series, lineages: Sequence[Lineage]) -> Iterator[_Row]:
    cold = [lineage for lineage in lineages if lineage.role == "cold"]
    last = len(series.checkpoints) - 1
    for lineage in (each for each in lineages if each.is_remade):
        # Partitions of one seed start from the same draws, so that they agree before anything else makes them.
        others = [each for each in cold if each is not lineage] if lineage.role == "cold" else [lineage]
        for index, checkpoint in enumerate(series.checkpoints):
            references = {"previous": index - 1, "last": last, "seed": index}
            for reference, of in references.items():
                if of < 0 or (of == index and (reference == "last" or lineage.role == "warm")):
                    continue
                partitions = [each.partitions[of] for each in others]
                for (stack, layer), columns in lineage.partitions[index].layers.items():
                    found = [agreement(columns["expert"], each.layers[stack, layer]["expert"]) for each in partitions]
                    yield {
                        **_keys(lineage, checkpoint),
                        "reference": reference,
                        "reference_step": series.checkpoints[of].step,
                        "stack": stack,
                        "layer": layer,
                        **_mean(found),
                    }


def _mean(found: Sequence[Agreement]) -> dict[str, float]:
    rows = [asdict(each) for each in found]
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def _track_rows(series: Series, lineages: Sequence[Lineage]) -> Iterator[_Row]:
    for lineage in lineages:
        for stack, layer in lineage.partitions[0].layers:
            experts = [partition.layers[stack, layer]["expert"] for partition in lineage.partitions]
            tracks = follow(experts)
            for index, (checkpoint, partition) in enumerate(zip(series.checkpoints, lineage.partitions, strict=True)):
                sizes = np.bincount(experts[index], minlength=len(tracks[index]))
                n_last = shared_with_track(experts[index], tracks[index], experts[-1], tracks[-1])
                n_next = None
                if checkpoint is not series.last:
                    n_next = shared_with_track(experts[index], tracks[index], experts[index + 1], tracks[index + 1])
                for expert in np.flatnonzero(sizes):
                    yield {
                        **_keys(lineage, checkpoint),
                        "run_id": checkpoint.run_id,
                        "partition_id": partition.partition_id,
                        "stack": stack,
                        "layer": layer,
                        "expert": int(expert),
                        "track": int(tracks[index][expert]),
                        "n_neurons": int(sizes[expert]),
                        "n_shared_next": None if n_next is None else int(n_next[expert]),
                        "n_shared_last": int(n_last[expert]),
                    }
