"""Partitions of a model's neurons into experts, written back as tables that join to the neurons."""

import json
import os
import time
from dataclasses import dataclass

from ...errors import AnalysisError
from ...ingest.models.checkpoint import Checkpoint
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from ...schema.identity import IDENTITY_VERSION, identifier
from ...schema.names import check_name
from ...schema.store import Store
from ..dealing import layer_seed
from .rows import Division, LayerNeurons, write_partition
from .settings import PartitionSettings
from .sources import Source, stored_source, weight_source
from .stored import find_stored_partition

__all__ = ["PartitionReport", "partition_model", "store_partition"]


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """What was partitioned.

    Parameters
    ----------
    partition_id, model, revision, method
        Keys of the partition.
    is_new
        False if the store already held it, so that nothing was done.
    n_layers, n_neurons
        What it covers.
    n_left_out
        Neurons of the layers asked for that are in no expert.
    n_experts
        Experts in each layer, the most where layers differ.
    n_smallest, n_largest
        Neurons of the smallest and of the largest expert of all layers.
    objective_name
        What the method makes small, None if nothing.
    objective, objective_random
        Its value, mean over layers, and that of random experts of equal sizes; None likewise.
    duration_s
        Wall time.
    """

    partition_id: str
    model: str
    revision: str
    method: str
    is_new: bool
    n_layers: int
    n_neurons: int
    n_left_out: int
    n_experts: int
    n_smallest: int
    n_largest: int
    objective_name: str | None
    objective: float | None
    objective_random: float | None
    duration_s: float

    def describe(self) -> str:
        """Return what was done as one line."""
        line = (
            f"partition {self.partition_id}: {self.model} {self.revision} by {self.method}, {self.n_neurons:,} neurons "
            f"of {self.n_layers} layers, {self.n_experts} experts a layer "
        )
        if self.n_smallest == self.n_largest:
            line += f"of {self.n_largest:,} neurons"
        else:
            line += f"whose sizes differ, {self.n_smallest:,} to {self.n_largest:,} neurons"
        if self.n_left_out:
            line += f", {self.n_left_out:,} neurons left out"
        if self.objective is not None and self.objective_random is not None:
            line += f", {self.objective_name} {self.objective:,.4g} (random experts {self.objective_random:,.4g})"
        return line + (f", {self.duration_s:.1f} s" if self.is_new else "; already in the store, nothing done")


def partition_model(
    model: str,
    *,
    store: str | os.PathLike[str],
    settings: PartitionSettings,
    revision: str | None = None,
    random_init: int | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> PartitionReport:
    """Group the neurons of each layer of a model into experts, and store them.

    Doing the same again changes nothing and is quick: the partition's id is a digest of all that defines it.

    Parameters
    ----------
    model
        Where weights are clustered, hub id, folder or ``.gguf`` file; of all other methods, the model as stored.
    store
        The store's folder.
    settings
        What defines the partition.
    revision
        Where weights are clustered, branch, tag or commit, or subfolder of a folder; else the revision as stored, None
        for the only one.
    random_init
        Seed of a random initialisation whose weights are clustered in place of the checkpoint's.
    name
        Name the model is stored under, where weights are clustered; the hub id or folder name if None.
    progress
        Where to report.

    Raises
    ------
    IngestError
        If the model cannot be loaded, or has no such weights.
    AnalysisError
        If its neurons cannot be divided as asked; the store is unchanged.
    UnknownNameError
        If the store has no such model, revision, run, partition or activity, or several where one was meant.
    QueryError
        If the query of the settings is wrong.
    StoreError
        If the store cannot be read or written.
    """
    started = time.monotonic()
    progress = progress or SilentProgress()
    with Database(store) as database:
        warm_start = None if settings.warm_start is None else find_stored_partition(database, settings.warm_start)
        if settings.reads_weights:
            checkpoint = Checkpoint(model, revision, random_init, name)
            check_name("model", checkpoint.stored_name)
            check_name("revision", checkpoint.stored_revision)
            # Only now the libraries of models, which take seconds to load.
            from ...ingest.models.model import load

            loaded = load(checkpoint, with_decoder=True, with_tokenizer=False)
            source = weight_source(loaded, settings, warm_start=warm_start)
        elif random_init is not None or name is not None:
            raise AnalysisError(
                f"method {settings.method} reads the store, in which a model has one name, and a random initialisation "
                "is the revision random-<seed>; random_init and name are for kmeans of weights"
            )
        else:
            source = stored_source(database, model, settings, revision=revision, warm_start=warm_start)
        partition_id, is_new = store_partition(database.store, source, settings, progress)
        return _report(Database(store), partition_id, source, is_new=is_new, started=started)


def store_partition(
    store: Store, source: Source, settings: PartitionSettings, progress: Progress | None = None
) -> tuple[str, bool]:
    """Divide neurons into experts and store them, unless the store has them.

    Parameters
    ----------
    store
        The store.
    source
        The neurons.
    settings
        What defines the partition, beside these.
    progress
        Where to report.

    Returns
    -------
    partition_id
        The partition.
    is_new
        False if the store already held it, so that nothing was done.

    Raises
    ------
    AnalysisError
        If a layer has fewer neurons than experts.
    StoreError
        If the store cannot be written.
    """
    started = time.monotonic()
    _check_sizes(source)
    partition_id = identifier(_definition(source, settings))
    if store.commit(partition_id) is not None:
        return partition_id, False
    with store.job(partition_id, kind="partition", resume=False) as job:
        layers = _divide(source, settings, progress or SilentProgress())
        described = {
            "method": settings.stored_method,
            "seed": settings.stored_seed,
            "parameters": json.dumps(_parameters(source, settings)),
            "half": settings.stored_half,
            "source_query": source.source_query,
            "objective_name": source.objective_name,
            "duration_s": time.monotonic() - started,
        }
        write_partition(job, source.origin, described, layers)
        job.commit()
    return partition_id, True


def _check_sizes(source: Source) -> None:
    for each in source.layers:
        if source.n_experts is not None and source.n_experts > len(each.neurons):
            raise AnalysisError(
                f"{source.n_experts:,} experts of {len(each.neurons):,} neurons: {each.stack} layer {each.layer} of "
                f"{source.origin.model} {source.origin.revision} has no more"
            )


def _parameters(source: Source, settings: PartitionSettings) -> dict[str, object]:
    layers = None if settings.layers is None else list(settings.layers)
    return {"layers": layers, **settings.parameters(), **source.provenance}


def _definition(source: Source, settings: PartitionSettings) -> dict[str, object]:
    """Return all that defines a partition: what is divided is in it by digest, and so not by the text of a query."""
    origin = source.origin
    return {
        "schema_version": IDENTITY_VERSION,
        "model": origin.model,
        "revision": origin.revision,
        "run_id": origin.run_id,
        "method": settings.stored_method,
        "n_experts": source.n_experts,
        "seed": settings.stored_seed,
        "half": settings.stored_half,
        # The layers themselves, so that to name all is to name none.
        **_parameters(source, settings),
        "layers": [[each.stack, each.layer, len(each.neurons)] for each in source.layers],
    }


def _divide(source: Source, settings: PartitionSettings, progress: Progress) -> list[tuple[LayerNeurons, Division]]:
    progress.phase("clustering", total=len(source.layers), unit="layers")
    divided = []
    for each in source.layers:
        divided.append((each, source.divide(each, layer_seed(settings.seed, each.stack, each.layer))))
        progress.advance(1)
    return divided


def _report(database: Database, partition_id: str, source: Source, *, is_new: bool, started: float) -> PartitionReport:
    """Return what the store now holds."""
    with database:
        query = (
            "select any_value(method) as method, count(*) as n_layers, sum(layers.n_neurons)::bigint as n_neurons, "
            "max(layers.n_experts) as n_experts, min(n_smallest) as n_smallest, max(n_largest) as n_largest, "
            "any_value(objective_name) as objective_name, avg(layers.objective) as objective, "
            "avg(objective_random) as objective_random "
            "from partition_layers as layers join partitions using (partition_id) where partition_id = ?"
        )
        (row,) = database.sql(query, [partition_id]).arrow().to_pylist()
    return PartitionReport(
        partition_id=partition_id,
        model=source.origin.model,
        revision=source.origin.revision,
        is_new=is_new,
        n_left_out=source.n_left_out,
        duration_s=time.monotonic() - started,
        **row,
    )
