"""The partitions of a study: made anew or warm-started at each checkpoint, native, random and matched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...errors import AnalysisError, IngestError, UnknownNameError
from ...progress import Progress
from ...queries.database import Database
from ..partitions.job import store_partition
from ..partitions.rows import Origin
from ..partitions.settings import PartitionSettings
from ..partitions.sources import Source, matched_source, stored_source, weight_source
from ..partitions.stored import StoredPartition, by_layer, read_stored_partition
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
    """The partitions of one role and seed, one for each checkpoint."""

    role: Role
    seed: int
    # Of the layers that the series measured. Native experts, random and matched groups are the same neurons throughout:
    # the partition of the last checkpoint, repeated. [checkpoints]
    partitions: tuple[StoredPartition, ...]

    @property
    def is_remade(self) -> bool:
        """Whether each checkpoint has a partition of its own."""
        return self.role in ("cold", "warm")

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

    Lineages come in the order cold by seed, warm, native, random by seed, matched by seed. kmeans loads each checkpoint
    of `model`, a hub id or folder, once. Raises `AnalysisError` if a layer was not measured, if a checkpoint cannot be
    loaded or has changed since, if its run lacks what the method needs, or if checkpoints have other layers or neurons.
    """
    _check_layers(series, settings)
    maker = _Maker(database, series, settings, progress)
    if settings.method == "native":
        lineages = [maker.repeated("native", settings.seed, maker.make(series.last))]
    else:
        lineages = maker.chains(model)
    controls = [*maker.random(lineages[0])]
    if series.has_norms:
        controls += maker.matched(lineages[0].partitions[-1])
    return [*lineages, *controls], maker.n_new


@dataclass(slots=True)
class _Maker:
    """Makes the partitions of a study, and counts those that are new."""

    database: Database
    series: Series
    settings: EmergenceSettings
    progress: Progress
    n_new: int = 0

    def chains(self, model: str) -> list[Lineage]:
        """Make the cold partitions of each seed and the warm ones, loading each checkpoint once."""
        seeds = self.settings.seeds
        chains: dict[tuple[Role, int], list[StoredPartition]] = {("cold", seed): [] for seed in seeds}
        if self.settings.has_warm_chain:
            chains["warm", self.settings.seed] = []
        for checkpoint in self.series.checkpoints:
            loaded = _load(model, self.series, checkpoint) if self.settings.method == "kmeans" else None
            for (role, seed), chain in chains.items():
                if role == "warm" and not chain:
                    chain.append(chains["cold", seed][0])
                else:
                    start = chain[-1] if role == "warm" else None
                    chain.append(self.make(checkpoint, loaded, seed=seed, warm_start=start))
        lineages = [Lineage(*key, tuple(map(self._measured, chain))) for key, chain in chains.items()]
        for lineage in lineages:
            _check_same_neurons(lineage.partitions)
        return lineages

    def repeated(self, role: Role, seed: int, partition: StoredPartition) -> Lineage:
        """Return the lineage of a partition that holds for every checkpoint."""
        return Lineage(role, seed, (partition,) * len(self.series.checkpoints))

    def make(
        self,
        checkpoint: MeasuredCheckpoint,
        loaded: "Model | None" = None,
        *,
        seed: int | None = None,
        warm_start: StoredPartition | None = None,
    ) -> StoredPartition:
        """Make and store one partition of a checkpoint, from the loaded weights or from what the store holds."""
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

    def random(self, lineage: Lineage) -> Iterator[Lineage]:
        """Make random partitions of the layers of a lineage, with as many experts."""
        layers = tuple(sorted({layer for _, layer in lineage.partitions[-1].layers}))
        checkpoint = self.series.last
        for seed in self.settings.random_seeds:
            settings = PartitionSettings(
                "random", n_experts=lineage.n_experts, layers=layers, run=checkpoint.run_id, seed=seed
            )
            source = stored_source(self.database, self.series.model, settings, revision=checkpoint.revision)
            yield self.repeated("random", seed, self._store(checkpoint, source, settings))

    def matched(self, last: StoredPartition) -> Iterator[Lineage]:
        """Make matched partitions: experts of the last checkpoint, permuted among neurons of similar norm and rate.

        They control for stability that has nothing to do with functions. A score is the better of two directions, so
        that a neuron without any signal scores its noise, which depends on how often it fires. Experts whose neurons
        fire equally often look stable for that alone; so do matched groups, but random groups do not.
        """
        checkpoint = self.series.last
        query = "select stack, layer, neuron, input_norm, firing_rate from neurons where run_id = ?"
        measured = by_layer(self.database.sql(query, [checkpoint.run_id]).arrow())
        members = {
            key: {
                **columns,
                **{name: measured[key][name][columns["neuron"]] for name in ("input_norm", "firing_rate")},
            }
            for key, columns in last.layers.items()
        }
        origin = Origin(self.series.model, checkpoint.revision, checkpoint.step, checkpoint.run_id)
        source = matched_source(origin, last.partition_id, members)
        for seed in self.settings.random_seeds:
            settings = PartitionSettings("random", matched=last.partition_id, run=checkpoint.run_id, seed=seed)
            yield self.repeated("matched", seed, self._store(checkpoint, source, settings))

    def _measured(self, partition: StoredPartition) -> StoredPartition:
        """Return a partition without layers that the series did not measure: weights are clustered of all stacks."""
        layers = {key: columns for key, columns in partition.layers.items() if key in self.series.layers}
        return replace(partition, layers=layers)

    def _store(self, checkpoint: MeasuredCheckpoint, source: Source, settings: PartitionSettings) -> StoredPartition:
        # The step is the series'; the name of a revision may not contain it.
        source = replace(source, origin=replace(source.origin, step=checkpoint.step))
        store = self.database.store
        partition_id, is_new = store_partition(store, source, settings)
        self.n_new += is_new
        self.progress.advance(1)
        return read_stored_partition(store, partition_id, self.series.model, checkpoint.revision)


def _load(model: str, series: Series, checkpoint: MeasuredCheckpoint) -> "Model":
    """Load one checkpoint, or refuse it if its weights are not those that were measured."""
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
    """Refuse layers that the series did not measure, before any partition is made."""
    known = sorted({layer for _, layer in series.layers})
    unknown = [layer for layer in settings.layers or () if layer not in known]
    if unknown:
        raise AnalysisError(
            f"no layer {', '.join(map(str, unknown))} in run {series.last.run_id} of {series.model} "
            f"{series.last.revision}; it measured {', '.join(map(str, known))}"
        )


def _check_same_neurons(partitions: Sequence[StoredPartition]) -> None:
    """Refuse checkpoints whose layers or neurons are not those of the first."""
    first = partitions[0]
    for other in partitions[1:]:
        if other.layers.keys() != first.layers.keys() or any(
            not np.array_equal(other.layers[key]["neuron"], first.layers[key]["neuron"]) for key in first.layers
        ):
            raise AnalysisError(
                f"checkpoints {first.revision} and {other.revision} of {other.model} have other layers or neurons: "
                "their experts cannot be compared"
            )
