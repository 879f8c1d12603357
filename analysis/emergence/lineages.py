"""The partitions of a study: of each checkpoint anew or started from the one before, native, random and matched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...errors import AnalysisError, IngestError, UnknownNameError
from ...progress import Progress
from ...queries.database import Database
from ..partitions.job import store_partition
from ..partitions.settings import PartitionSettings
from ..partitions.sources import Source, stored_source, weight_source
from ..partitions.stored import StoredPartition, read_stored_partition
from .matched import matched_source
from .series import MeasuredCheckpoint, Series
from .settings import EmergenceSettings

if TYPE_CHECKING:
    from ...ingest.models.model import Model

__all__ = ["Lineage", "Role", "make_lineages", "n_partitions"]

Role = Literal["cold", "warm", "native", "random", "matched"]
"""``cold``: made anew at each checkpoint. ``warm``: started from the experts of the checkpoint before. ``native``: the
model's own. ``random``: groups drawn at random, as many and as large. ``matched``: the experts of the last checkpoint
dealt anew among neurons of like input norm and firing rate."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The partitions of one role and seed, checkpoint by checkpoint.

    Parameters
    ----------
    role, seed
        What they are.
    partitions
        One a checkpoint, in the layers that the series measured; of native experts, random and matched groups, the
        same neurons throughout, that of the last, repeated. [checkpoints]
    """

    role: Role
    seed: int
    partitions: tuple[StoredPartition, ...]

    @property
    def is_remade(self) -> bool:
        """Whether each checkpoint has a partition of its own."""
        return self.role in ("cold", "warm")


def n_partitions(series: Series, settings: EmergenceSettings) -> int:
    """Return how many partitions a study has."""
    n_chains = len(settings.seeds) + settings.has_warm_chain
    # The first partition of the warm chain is the cold one of the first seed.
    n_remade = n_chains * len(series.checkpoints) - settings.has_warm_chain
    return n_remade + (settings.method == "native") + settings.n_random * (1 + series.has_norms)


def make_lineages(
    database: Database, model: str, series: Series, settings: EmergenceSettings, progress: Progress
) -> tuple[list[Lineage], int]:
    """Make the partitions of a study, but for those that the store has.

    Parameters
    ----------
    database
        The store's database.
    model
        Of kmeans, hub id or folder whose revisions are loaded, each once.
    series
        The checkpoints.
    settings
        What is made of each.
    progress
        Where each partition is reported.

    Returns
    -------
    lineages
        Cold ones by seed, warm, native, random by seed, matched by seed.
    n_new
        Partitions that the store did not have.

    Raises
    ------
    AnalysisError
        If the last run did not measure a layer of the settings, if a checkpoint cannot be loaded or has other weights
        than its run measured, if its run does not hold what the method needs, or if checkpoints have other layers or
        neurons than the first.
    """
    _check_layers(series, settings)
    maker = _Maker(database, series, settings, progress)
    chains: dict[tuple[Role, int], list[StoredPartition]] = {("cold", seed): [] for seed in settings.seeds}
    if settings.has_warm_chain:
        chains["warm", settings.seed] = []
    for checkpoint in series.checkpoints if chains else ():
        loaded = _load(model, series, checkpoint) if settings.method == "kmeans" else None
        for (role, seed), chain in chains.items():
            if role == "warm" and not chain:
                chain.append(chains["cold", seed][0])
            else:
                chain.append(maker.make(checkpoint, loaded, seed, chain[-1] if role == "warm" else None))
    n_checkpoints = len(series.checkpoints)
    lineages = [
        Lineage(role, seed, tuple(_measured(each, series) for each in chain)) for (role, seed), chain in chains.items()
    ]
    for each in lineages:
        _check_alike(each.partitions)
    if settings.method == "native":
        lineages.append(Lineage("native", settings.seed, (maker.make(series.last, None),) * n_checkpoints))
    like = lineages[0].partitions[-1]
    groups: dict[Role, Iterator[StoredPartition]] = {"random": maker.random(like)}
    if series.has_norms:
        groups["matched"] = maker.matched(like)
    for role, made in groups.items():
        lineages += [
            Lineage(role, seed, (each,) * n_checkpoints) for seed, each in zip(settings.random_seeds, made, strict=True)
        ]
    return lineages, maker.n_new


@dataclass(slots=True)
class _Maker:
    """Makes partitions, and counts those that are new."""

    database: Database
    series: Series
    settings: EmergenceSettings
    progress: Progress
    n_new: int = 0

    def make(
        self,
        checkpoint: MeasuredCheckpoint,
        loaded: "Model | None",
        seed: int | None = None,
        warm_start: StoredPartition | None = None,
    ) -> StoredPartition:
        """Make one partition of a checkpoint."""
        settings = self.settings.partition(
            run=checkpoint.run_id, seed=seed, warm_start=None if warm_start is None else warm_start.partition_id
        )
        if loaded is not None:
            source = weight_source(loaded, settings, warm_start=warm_start)
        else:
            source = stored_source(
                self.database, self.series.model, settings, revision=checkpoint.revision, warm_start=warm_start
            )
        return self._store(checkpoint, source, settings)

    def random(self, like: StoredPartition) -> Iterator[StoredPartition]:
        """Make the random partitions: of the layers of a partition, with as many experts."""
        n_experts = max(int(each["expert"].max()) + 1 for each in like.layers.values())
        layers = tuple(sorted({layer for _, layer in like.layers}))
        last = self.series.last
        for seed in self.settings.random_seeds:
            settings = PartitionSettings("random", n_experts=n_experts, layers=layers, run=last.run_id, seed=seed)
            source = stored_source(self.database, self.series.model, settings, revision=last.revision)
            yield self._store(last, source, settings)

    def matched(self, like: StoredPartition) -> Iterator[StoredPartition]:
        """Make the matched partitions: the experts of a partition, dealt anew among like neurons."""
        last = self.series.last
        source = matched_source(self.database, self.series, like)
        for seed in self.settings.random_seeds:
            settings = PartitionSettings("random", matched=like.partition_id, run=last.run_id, seed=seed)
            yield self._store(last, source, settings)

    def _store(self, checkpoint: MeasuredCheckpoint, source: Source, settings: PartitionSettings) -> StoredPartition:
        # The step is the series', which a name need not tell.
        source = replace(source, origin=replace(source.origin, step=checkpoint.step))
        store = self.database.store
        partition_id, is_new = store_partition(store, source, settings)
        self.n_new += is_new
        self.progress.advance(1)
        return read_stored_partition(store, partition_id, self.series.model, checkpoint.revision)


def _load(model: str, series: Series, checkpoint: MeasuredCheckpoint) -> "Model":
    """Load one checkpoint as it was measured."""
    # Only now the libraries of models, which take seconds to load.
    from ...ingest.models.checkpoint import Checkpoint
    from ...ingest.models.model import load

    where = f"checkpoint {checkpoint.revision} (step {checkpoint.step:,}) of {series.model}"
    try:
        loaded = load(
            Checkpoint(model, checkpoint.revision, name=series.model),
            dtype=checkpoint.dtype,
            with_decoder=True,
            with_tokenizer=False,
        )
    except (IngestError, UnknownNameError) as error:
        raise AnalysisError(f"{where} cannot be loaded: {error}") from error
    if loaded.weights_sha256 != checkpoint.weights_sha256:
        raise AnalysisError(
            f"{where} has changed: its weights have the digest {loaded.weights_sha256[:12]}, run {checkpoint.run_id} "
            f"measured {checkpoint.weights_sha256[:12]}"
        )
    return loaded


def _check_layers(series: Series, settings: EmergenceSettings) -> None:
    """Refuse layers that the series did not measure, before anything is made of them."""
    known = sorted({layer for _, layer in series.layers})
    unknown = [layer for layer in settings.layers or () if layer not in known]
    if unknown:
        raise AnalysisError(
            f"no layer {', '.join(map(str, unknown))} in run {series.last.run_id} of {series.model} "
            f"{series.last.revision}; it measured {', '.join(map(str, known))}"
        )


def _measured(partition: StoredPartition, series: Series) -> StoredPartition:
    """Return the part of a partition that the series measured: weights are clustered of all stacks."""
    return replace(partition, layers={key: each for key, each in partition.layers.items() if key in series.layers})


def _check_alike(partitions: Sequence[StoredPartition]) -> None:
    """Refuse checkpoints of which one has other layers or neurons than the first."""
    first = partitions[0]
    for each in partitions[1:]:
        if each.layers.keys() != first.layers.keys() or any(
            not np.array_equal(each.layers[key]["neuron"], first.layers[key]["neuron"]) for key in first.layers
        ):
            raise AnalysisError(
                f"checkpoints {first.revision} and {each.revision} of {each.model} have other layers or neurons: "
                "their experts cannot be compared"
            )
