"""Partitions of a model's neurons into experts, written back as tables that join to the neurons."""

import json
import os
import time
from dataclasses import dataclass

from ...errors import AnalysisError
from ...ingest.models.checkpoint import Checkpoint
from ...progress import Progress, SilentProgress
from ...queries.database import Database
from ...schema.names import IDENTITY_VERSION, check_name, identifier
from ...schema.store import Store
from ..lookup import Partition, starting_with
from .chance import layer_seed
from .settings import PartitionSettings
from .sources import Source, stored_source, weight_source
from .stored import read_stored_partition, write_partition


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """The partition that `partition_model` made, or found in the store."""

    partition_id: str
    model: str
    revision: str
    method: str
    is_new: bool  # False if the store already held it, so that nothing was done
    n_layers: int
    n_neurons: int
    n_excluded: int  # neurons of the chosen layers that are in no expert
    n_experts: int  # in each layer, the most where layers differ
    n_smallest: int  # neurons of the smallest and of the largest expert of all layers
    n_largest: int
    # What the method minimises, its mean over layers, and that of random experts of equal sizes; None if nothing
    objective_name: str | None
    objective: float | None
    objective_random: float | None
    duration_s: float

    def describe(self) -> str:
        """Return what was done as one line."""
        sizes = f"of {self.n_largest:,} neurons"
        if self.n_smallest < self.n_largest:
            sizes = f"whose sizes differ, {self.n_smallest:,} to {self.n_largest:,} neurons"
        line = f"partition {self.partition_id}: {self.model} {self.revision} by {self.method}, "
        line += f"{self.n_neurons:,} neurons of {self.n_layers} layers, {self.n_experts} experts a layer {sizes}"
        if self.n_excluded:
            line += f", {self.n_excluded:,} neurons excluded"
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
    model, revision
        Hub id, folder or ``.gguf`` file, and branch, tag, commit or subfolder, where weights are clustered; for all
        other methods, as stored, the revision None for the only one.
    store, settings, progress
        The store's folder, what defines the partition, and where to report.
    random_init, name
        Where weights are clustered, the seed of a random initialisation in place of the checkpoint, and the name the
        model is stored under, by default the hub id or folder name.

    Raises
    ------
    IngestError
        If the model cannot be loaded, or has no such weights.
    AnalysisError
        If its neurons cannot be divided as asked; the store is unchanged.
    UnknownNameError
        If the store has no such model, revision, run, partition or activity, or several where one was meant.
    QueryError, StoreError
        If the query of the settings is wrong; if the store cannot be read or written.

    Examples
    --------
    >>> settings = neuronlake.PartitionSettings(method="kmeans", n_experts=4)
    >>> neuronlake.partition_model("tiny-bert", store="neuronlake-store", settings=settings).n_neurons
    128
    """
    started = time.monotonic()
    progress = progress or SilentProgress()
    with Database(store) as database:
        other, prefix = None, settings.matched if settings.warm_start is None else settings.warm_start
        if prefix is not None:
            row = starting_with(database, Partition, prefix)
            other = read_stored_partition(database.store, row.partition_id, row.model, row.revision)
            if settings.warm_start is not None and row.half not in (None, settings.columns()["half"]):
                problem = f"no start: partition {row.partition_id} is made of scores on half {row.half}"
                raise AnalysisError(f"{problem}, which these experts would be made of without a word of it")
        if settings.reads_weights:
            checkpoint = Checkpoint(model, revision, random_init, name)
            check_name("model", checkpoint.stored_name)
            check_name("revision", checkpoint.stored_revision)
            # Only now the libraries of models, which take seconds to load.
            from ...ingest.models.model import load

            source = weight_source(load(checkpoint, with_decoder=True, with_tokenizer=False), settings, other)
        elif random_init is not None or name is not None:
            given = "give the model's name there, and for a random initialisation the revision random-<seed>"
            problem = f"method {settings.method} reads the store: {given}"
            raise AnalysisError(f"{problem}; random_init and name are for kmeans of weights")
        else:
            source = stored_source(database, model, settings, other, revision=revision)
        partition_id, is_new = store_partition(database.store, source, settings, progress)
        if is_new:
            database.refresh()
        (made,) = database.ask("partition_report", partition=partition_id).arrow().to_pylist()
    return PartitionReport(
        partition_id=partition_id,
        model=source.origin.model,
        revision=source.origin.revision,
        is_new=is_new,
        n_excluded=source.n_excluded,
        duration_s=time.monotonic() - started,
        **made,
    )


def store_partition(
    store: Store, source: Source, settings: PartitionSettings, progress: Progress | None = None, *, commits: bool = True
) -> tuple[str, bool]:
    """Divide neurons into experts, store them unless the store has this partition, and return its id and if it is new.

    Unless this `commits` it, a new one is left staged. An `AnalysisError` if a layer has fewer neurons than experts.
    """
    started = time.monotonic()
    origin = source.origin
    for (stack, layer), neurons in source.neurons.items():
        if settings.n_experts is not None and settings.n_experts > len(neurons):
            problem = f"{settings.n_experts:,} experts of {len(neurons):,} neurons"
            raise AnalysisError(f"{problem}: {stack} layer {layer} of {origin.model} {origin.revision} has no more")
    described, parameters = settings.columns(), {**settings.parameters(), **source.provenance}
    definition = {
        "schema_version": IDENTITY_VERSION,
        "model": origin.model,
        "revision": origin.revision,
        "run_id": origin.run_id,
        "n_experts": settings.n_experts,
        **described,
        **parameters,  # with the digest of the rows of a query in place of its text
        # The layers themselves, so that to name all is to name none.
        "layers": [[*key, len(neurons)] for key, neurons in source.neurons.items()],
    }
    partition_id = identifier(definition)
    if store.commit(partition_id) is not None:
        return partition_id, False
    with store.job(partition_id, kind="partition", resume=not commits) as job:
        progress = progress or SilentProgress()
        progress.phase("clustering", total=len(source.neurons), unit="layers")
        divisions = {}
        for key in source.neurons:
            divisions[key] = source.divide(key, layer_seed(settings.seed, *key))
            progress.advance(1)
        described |= {"parameters": json.dumps(parameters), "source_query": source.source_query}
        described |= {"objective_name": settings.objective_name, "duration_s": time.monotonic() - started}
        write_partition(job, origin, described, divisions)
        if commits:
            job.commit()
    return partition_id, True
