"""The partitions of a study: made anew or warm-started at each checkpoint, native, random and matched."""

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...engines.engine import Engine, Work
from ...errors import AnalysisError, IngestError, UnknownNameError
from ...progress import Progress
from ...queries.database import Database
from ...schema.store import Store
from ..partitions.job import store_partition
from ..partitions.settings import PartitionSettings
from ..partitions.sources import Source, stored_source, weight_source
from ..partitions.stored import StoredPartition, read_stored_partition
from .series import MeasuredCheckpoint, Series
from .settings import EmergenceSettings

if TYPE_CHECKING:
    from ...ingest.models.model import Model

Role = Literal["cold", "warm", "native", "random", "matched"]
"""``cold``: made anew at each checkpoint. ``warm``: started from the experts of the checkpoint before. ``native``: the
model's own. ``random``: groups drawn at random, as many and as large. ``matched``: the experts of the last checkpoint
permuted among neurons of similar input norm and firing rate."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The partitions of one role and seed."""

    role: Role
    seed: int
    # Of the layers that the series measured, one for each checkpoint. Native experts, random and matched groups are the
    # same neurons throughout: that of the last checkpoint alone. [checkpoints or 1]
    partitions: tuple[StoredPartition, ...]

    @property
    def n_experts(self) -> int:
        """Experts in each layer at the last checkpoint, the most where layers differ."""
        return max(int(columns["expert"].max()) + 1 for columns in self.partitions[-1].layers.values())


def n_partitions(series: Series, settings: EmergenceSettings) -> int:
    """Return how many partitions a study has."""
    n_chains = len(settings.seeds) + settings.has_warm_chain
    # The first partition of the warm chain is the cold one of the first seed.
    n_remade = n_chains * len(series.checkpoints) - settings.has_warm_chain
    return n_remade + (settings.method == "native") + settings.n_random * (1 + series.has_norms)


def make_lineages(
    database: Database, model: str, series: Series, settings: EmergenceSettings, progress: Progress
) -> tuple[list[Lineage], int]:
    """Make the partitions of a study, store those that are new, and return their lineages and how many were new.

    kmeans loads each checkpoint of `model`, a hub id or folder, once.
    """
    _check_layers(series, settings)
    n_new = 0

    def make(
        checkpoint: MeasuredCheckpoint,
        chosen: PartitionSettings,
        other: StoredPartition | None = None,  # the one to start from, or whose experts are permuted
        loaded: "Model | None" = None,  # where weights are clustered
    ) -> StoredPartition:
        nonlocal n_new
        source = _source(database, series, checkpoint, chosen, other, loaded)
        partition_id, is_new = store_partition(database.store, source, chosen)
        n_new += is_new
        progress.advance(1)
        return read_stored_partition(database.store, partition_id, series.model, checkpoint.revision)

    run_id = series.last.run_id
    if settings.method == "native":
        lineages = [Lineage("native", settings.seed, (make(series.last, settings.partition(run=run_id)),))]
    else:
        lineages = _chains(make, model, series, settings)
    last, n_experts = lineages[0].partitions[-1], lineages[0].n_experts
    layers = tuple(sorted({layer for _, layer in last.layers}))
    for seed in settings.random_seeds:
        chosen = PartitionSettings("random", n_experts=n_experts, layers=layers, run=run_id, seed=seed)
        lineages.append(Lineage("random", seed, (make(series.last, chosen),)))
    # Matched groups control for stability that has nothing to do with functions. A score is the better of two
    # directions, so that a neuron without any signal scores its noise, which depends on how often it fires. Experts
    # whose neurons fire equally often look stable for that alone; so do matched groups, but random groups do not.
    for seed in settings.random_seeds if series.has_norms else ():
        chosen = PartitionSettings("random", matched=last.partition_id, run=run_id, seed=seed)
        lineages.append(Lineage("matched", seed, (make(series.last, chosen, last),)))
    return lineages, n_new


def _check_layers(series: Series, settings: EmergenceSettings) -> None:
    """Refuse layers that the series did not measure, before any partition is made."""
    known = sorted({layer for _, layer in series.layers})
    unknown = [layer for layer in settings.layers or () if layer not in known]
    if unknown:
        of_run = f"run {series.last.run_id} of {series.model} {series.last.revision}"
        asked, measured = (", ".join(map(str, layers)) for layers in (unknown, known))
        raise AnalysisError(f"no layer {asked} in {of_run}; it measured {measured}")


def make_cold(
    store: Store, model: str, series: Series, settings: EmergenceSettings, engine: Engine, progress: Progress
) -> int:
    """Have an engine make the cold partitions, a checkpoint a task, for `make_lineages`; return how many were new."""
    if settings.method == "native":
        return 0
    _check_layers(series, settings)
    do = functools.partial(_stage_cold, store.path.absolute(), model, series, settings)
    work = Work(tasks=series.checkpoints, do=do, unit="checkpoints", label=lambda checkpoint: checkpoint.revision)
    n_new = 0
    for _, made in engine.run(work, lambda: nullcontext(progress)):
        n_new += len(made)
        for partition_id in made:
            store.commit_staged(partition_id, kind="partition")
    return n_new


def _stage_cold(
    store: Path,
    model: str,
    series: Series,
    settings: EmergenceSettings,
    checkpoint: MeasuredCheckpoint,
    progress: Progress,
) -> list[str]:
    """Make and stage the cold partitions of a checkpoint in a worker; return the ids of those that are new."""
    made = []
    with Database(store) as database:
        loaded = _load(model, series, checkpoint) if settings.method == "kmeans" else None
        for seed in settings.seeds:
            chosen = settings.partition(run=checkpoint.run_id, seed=seed)
            source = _source(database, series, checkpoint, chosen, None, loaded)
            partition_id, is_new = store_partition(database.store, source, chosen, progress, commits=False)
            made += [partition_id] * is_new
    return made


def _source(
    database: Database,
    series: Series,
    checkpoint: MeasuredCheckpoint,
    chosen: PartitionSettings,
    other: StoredPartition | None,
    loaded: "Model | None",
) -> Source:
    """Return what a partition of a checkpoint is made of."""
    source = (
        stored_source(database, series.model, chosen, other, revision=checkpoint.revision)
        if loaded is None
        else weight_source(loaded, chosen, other)
    )
    # The step is the series'; the name of a revision may not contain it.
    return replace(source, origin=replace(source.origin, step=checkpoint.step))


def _chains(
    make: Callable[..., StoredPartition], model: str, series: Series, settings: EmergenceSettings
) -> list[Lineage]:
    """Make the cold partitions of each seed and the warm ones, loading each checkpoint once."""
    chains: dict[tuple[Role, int], list[StoredPartition]] = {("cold", seed): [] for seed in settings.seeds}
    if settings.has_warm_chain:
        chains["warm", settings.seed] = []
    for checkpoint in series.checkpoints:
        loaded = _load(model, series, checkpoint) if settings.method == "kmeans" else None
        for (role, seed), chain in chains.items():
            if role == "warm" and not chain:
                chain.append(chains["cold", seed][0])
                continue
            start = chain[-1] if role == "warm" else None
            start_id = start.partition_id if start else None
            chosen = settings.partition(run=checkpoint.run_id, seed=seed, warm_start=start_id)
            chain.append(make(checkpoint, chosen, start, loaded))
    lineages = []
    for (role, seed), chain in chains.items():
        # Weights are clustered of all stacks, also of layers that the series did not measure.
        partitions = tuple(
            replace(each, layers={key: each.layers[key] for key in each.layers if key in series.layers})
            for each in chain
        )
        _check_same_neurons(partitions)
        lineages.append(Lineage(role, seed, partitions))
    return lineages


def _load(model: str, series: Series, checkpoint: MeasuredCheckpoint) -> "Model":
    """Load one checkpoint, or refuse it if its weights are not those that were measured."""
    # Only now the libraries of models, which take seconds to load.
    from ...ingest.models.checkpoint import Checkpoint
    from ...ingest.models.model import load

    where = f"checkpoint {checkpoint.revision} (step {checkpoint.step:,}) of {series.model}"
    source = Checkpoint(model, checkpoint.revision, name=series.model)
    try:
        loaded = load(source, dtype=checkpoint.dtype, with_decoder=True, with_tokenizer=False)
    except (IngestError, UnknownNameError) as error:
        raise AnalysisError(f"{where} cannot be loaded: {error}") from error
    if loaded.weights_sha256 != checkpoint.weights_sha256:
        found, measured = loaded.weights_sha256[:12], checkpoint.weights_sha256[:12]
        problem = f"its weights have the digest {found}, run {checkpoint.run_id} measured {measured}"
        raise AnalysisError(f"{where} has changed: {problem}")
    return loaded


def _check_same_neurons(partitions: Sequence[StoredPartition]) -> None:
    """Refuse checkpoints whose layers or neurons are not those of the first."""
    first = partitions[0]
    for other in partitions[1:]:
        if other.layers.keys() != first.layers.keys() or any(
            not np.array_equal(other.layers[key]["neuron"], first.layers[key]["neuron"]) for key in first.layers
        ):
            both = f"checkpoints {first.revision} and {other.revision} of {other.model}"
            raise AnalysisError(f"{both} have other layers or neurons: their experts cannot be compared")
