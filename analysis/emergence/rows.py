"""The rows of a study, for each of its tables, and how much two of its partitions agree."""

import datetime
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from ...schema.commits import neuronlake_version
from ...schema.conformance import conform
from ...schema.job import Job
from ...schema.tables import table
from .lineages import Lineage
from .series import MeasuredCheckpoint, Series
from .settings import EmergenceSettings

_Row = dict[str, Any]


def write_study(
    job: Job, series: Series, settings: EmergenceSettings, lineages: Sequence[Lineage], started_at: datetime.datetime
) -> None:
    """Stage the rows of a study in a job named by its id: the study, its partitions, how they agree, native experts."""
    study = {
        "last_run_id": series.last.run_id,
        "corpus": series.corpus,
        "n_checkpoints": len(series.checkpoints),
        "first_step": series.checkpoints[0].step,
        "last_step": series.last.step,
        "method": settings.method,
        "n_experts": lineages[0].n_experts,
        "parameters": json.dumps(settings.partition().parameters()),
        "n_seeds": len(settings.seeds),
        "n_random": settings.n_random,
        "seed": settings.seed,
        "neuronlake_version": neuronlake_version(),
        "started_at": started_at,
        "duration_s": (datetime.datetime.now(datetime.UTC) - started_at).total_seconds(),
    }
    partitions = [
        {**_keys(lineage, checkpoint), "run_id": checkpoint.run_id, "partition_id": partition.partition_id}
        for lineage in lineages
        for checkpoint, partition in zip(reversed(series.checkpoints), reversed(lineage.partitions), strict=False)
    ]
    tables: dict[str, Iterable[_Row]] = {
        "emergence_studies": [study],
        "emergence_partitions": partitions,
        "partition_changes": _change_rows(series, lineages),
        # Only native experts are followed: k-means of two seeds hardly agrees, so that its experts cannot be.
        "expert_tracks": _track_rows(series, lineages) if settings.method == "native" else (),
    }
    for name, rows in tables.items():
        grain = [column for column in table(name).grain if column != "emergence_id"]
        ordered = sorted(rows, key=lambda row: [row[column] for column in grain])
        if ordered:
            job.write(name, conform(name, ordered, emergence_id=job.name, model=series.model), model=series.model)


def _keys(lineage: Lineage, checkpoint: MeasuredCheckpoint) -> _Row:
    return {"role": lineage.role, "seed": lineage.seed, "revision": checkpoint.revision, "step": checkpoint.step}


def _change_rows(series: Series, lineages: Sequence[Lineage]) -> Iterator[_Row]:
    """Yield the agreement of each remade partition with those of the previous, the last and its own checkpoint."""
    cold = [lineage for lineage in lineages if lineage.role == "cold"]
    remade = [lineage for lineage in lineages if lineage.role in ("cold", "warm")]
    for lineage, (index, checkpoint) in product(remade, enumerate(series.checkpoints)):
        # Partitions of one seed start from the same draws, so that they agree before anything else makes them.
        others = [other for other in cold if other is not lineage] if lineage.role == "cold" else [lineage]
        for reference, place in (("previous", index - 1), ("last", len(series.checkpoints) - 1), ("seed", index)):
            if place < 0 or (place == index and (reference == "last" or lineage.role == "warm")):
                continue
            for key, columns in lineage.partitions[index].layers.items():
                labels = [other.partitions[place].layers[key]["expert"] for other in others]
                agreements = [agreement(columns["expert"], other) for other in labels]
                yield {
                    **_keys(lineage, checkpoint),
                    "reference": reference,
                    "reference_step": series.checkpoints[place].step,
                    "stack": key[0],
                    "layer": key[1],
                    **{name: fmean(row[name] for row in agreements) for name in agreements[0]},
                }


def _track_rows(series: Series, lineages: Sequence[Lineage]) -> Iterator[_Row]:
    """Yield the experts and groups of a native study at each checkpoint, which are the same neurons throughout."""
    for lineage in lineages:
        (partition,) = lineage.partitions
        for (stack, layer), columns in partition.layers.items():
            for expert, n_neurons in Counter(columns["expert"].tolist()).items():
                for checkpoint in series.checkpoints:
                    yield {
                        **_keys(lineage, checkpoint),
                        "run_id": checkpoint.run_id,
                        "partition_id": partition.partition_id,
                        "stack": stack,
                        "layer": layer,
                        "expert": expert,
                        "track": expert,
                        "n_neurons": n_neurons,
                        "n_shared_next": None if checkpoint is series.last else n_neurons,
                        "n_shared_last": n_neurons,
                    }


def agreement(a: NDArray[np.integer], b: NDArray[np.integer]) -> dict[str, float]:
    """Return the measures of how much two partitions agree, given the expert of each neuron in either. [neurons]."""
    return {
        # Of pairs of neurons (Hubert and Arabie 1985): 0 by chance, 1 if equal
        "adjusted_rand_index": float(adjusted_rand_score(a, b)),
        # Mutual information by the mean of both entropies: 0 to 1, not 0 by chance
        "normalized_mutual_information": float(normalized_mutual_info_score(a, b)),
        "variation_of_information": variation_of_information(a, b),
    }


def variation_of_information(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """Return the variation of information of two partitions (Meila 2007), in nats, given the expert of each neuron.

    It is the entropy of either partition given the other, summed. No term is negative: equal partitions give exactly 0.
    """
    counts = contingency_matrix(a, b)  # [experts of a, experts of b]
    sizes_a, sizes_b = (counts.sum(axis, keepdims=True) + 0 * counts for axis in (1, 0))
    shared = counts > 0
    terms = np.log(sizes_a[shared] / counts[shared]) + np.log(sizes_b[shared] / counts[shared])
    return float((counts[shared] * terms).sum() / len(a))
