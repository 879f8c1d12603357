"""Where the neurons of a partition come from, and how those of one layer are divided into experts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...errors import AnalysisError, UnknownNameError
from ...queries.database import Database
from ...queries.quoting import literal
from ...queries.statements import statement
from ..lookup import Run, find_run
from ..permutations import permute_within, strata
from .chance import RandomPartition
from .features import features_sha256, read_features
from .settings import PartitionSettings
from .stored import Division, Key, Origin, StoredPartition, by_layer

if TYPE_CHECKING:
    from ...ingest.models.model import Model

_OfLayer = TypeVar("_OfLayer")
_MATCHED_BINS = 5  # quantile bins of norm, and of firing rate, at most
_SCORES = {"all": "ranking", "a": "ranking_half_a", "b": "ranking_half_b"}


@dataclass(frozen=True, slots=True)
class Source:
    """Neurons that are divided into experts, layer by layer."""

    origin: Origin
    neurons: Mapping[Key, NDArray[np.integer]]  # indices of the neurons of each layer, ascending [members]
    divide: Callable[[Key, int], Division]  # takes a layer and its seed
    source_query: str | None = None  # the SQL whose rows are clustered
    n_excluded: int = 0  # neurons of the chosen layers that are in no expert
    provenance: Mapping[str, object] = field(default_factory=dict)  # what else the experts depend on, as JSON values


def weight_source(loaded: "Model", settings: PartitionSettings, warm_start: StoredPartition | None = None) -> Source:
    """Return the neurons of all stacks of a model, to be clustered by their weights.

    Raises `IngestError` if the model has no such weights, and `AnalysisError` if it has no such layer, or not the
    neurons of the warm start.
    """
    from ...ingest.neurons.weights import weight_vectors

    layers = _chosen({(str(layer.stack), layer.layer): layer for layer in loaded.layers()}, settings)
    return _clustered(
        Origin(loaded.name, loaded.revision, loaded.step),
        _whole({key: layer.n_neurons for key, layer in layers.items()}),
        lambda key: weight_vectors(loaded.module, layers[key], settings.features),
        settings,
        warm_start,
        {"weights_sha256": loaded.weights_sha256},
    )


def stored_source(
    database: Database,
    model: str,
    settings: PartitionSettings,
    other: StoredPartition | None = None,  # the one to start from, or whose experts are permuted
    *,
    revision: str | None,
) -> Source:
    """Return the neurons of a run, to be divided by what the store holds of them.

    Raises `UnknownNameError` if the store has no such model, revision, run or activity, or several, and `AnalysisError`
    if the run does not hold what the method needs, has no such layer, or not the neurons of the other partition.
    """
    # All runs of a checkpoint have the same neurons and native experts.
    is_any = settings.method == "native" or (settings.method == "random" and settings.matched is None)
    run = find_run(database, settings.run, model, revision=revision, is_any=is_any)
    origin = Origin(run.model, run.revision, run.step, None if is_any else run.run_id)
    query = "select stack, layer, n_neurons from layers where run_id = ? order by stack, layer"
    rows = database.sql(query, [run.run_id]).arrow().to_pylist()
    n_neurons = {(row["stack"], row["layer"]): row["n_neurons"] for row in rows}
    match settings.method:
        case "coactivation":
            source = _coactivation(database, run, origin, n_neurons, settings)
        case "random" if other is not None:
            source = _matched(database, run, origin, other, settings)
        case "random":
            neurons = _whole(_chosen(n_neurons, settings))
            source = Source(origin, neurons, lambda key, seed: _random(neurons[key], settings, seed))
        case "native":
            source = _native(database, run, origin, n_neurons, settings)
        case _:
            query = settings.query or ""
            if settings.method == "function":
                # NULL stands where the half lacks a class of the function, so in all neurons alike.
                score = _SCORES[settings.half]
                query = (
                    f"select stack, layer, neuron, list({score} order by family, function) filter ({score} is not null)"
                    f" as scores from neuron_scores where run_id = {literal(run.run_id)} group by all"
                )
            vectors = _chosen(read_features(database, query, n_neurons), settings)
            neurons = _whole({key: len(rows) for key, rows in vectors.items()})
            provenance = {"features_sha256": features_sha256(vectors)}
            source = _clustered(origin, neurons, vectors.__getitem__, settings, other, provenance)
            return replace(source, source_query=query)
    n_chosen = sum(_chosen(n_neurons, settings).values())
    return replace(source, n_excluded=n_chosen - sum(map(len, source.neurons.values())))


def _coactivation(
    database: Database, run: Run, origin: Origin, n_neurons: Mapping[Key, int], settings: PartitionSettings
) -> Source:
    """Partition the graph of the Jaccard indices of each neuron with its closest partners."""
    from scipy import sparse

    from .graph import GraphPartition, cut

    query = "select activity, stack, layer, count(*) as n_pairs from coactivations where run_id = ? group by all"
    counts = database.sql(query, [run.run_id]).arrow().to_pylist()
    activities = sorted({row["activity"] for row in counts})
    if not activities:
        raise AnalysisError(
            f"run {run.run_id} has no coactivations in {database.store}: 'neuronlake ingest {run.model} "
            f"--corpus {run.corpus} --coactivation' makes them"
        )
    if settings.activity is None and len(activities) > 1:
        raise AnalysisError(f"run {run.run_id} has coactivations of several activities: {', '.join(activities)}")
    activity = settings.activity or activities[0]
    if activity not in activities:
        raise UnknownNameError("activity", activity, activities, where=f"the coactivations of run {run.run_id}")
    n_pairs = {(row["stack"], row["layer"]): row["n_pairs"] for row in counts if row["activity"] == activity}
    neurons = _whole(_chosen({key: n for key, n in n_neurons.items() if key in n_pairs}, settings))

    def divide(key: Key, seed: int) -> Division:
        asked = {"run": run.run_id, "activity": activity, "stack": key[0], "layer": key[1]}
        rows = database.sql(statement("partition_coactivations"), asked).arrow()
        neuron, partner, weight = (rows.column(name).to_numpy() for name in ("neuron", "partner", "weight"))
        size = len(neurons[key])
        one_way = sparse.csr_array((weight, (neuron, partner)), shape=(size, size))
        graph = one_way.maximum(one_way.T)  # either may be among the other's closest
        fitted = GraphPartition(settings.n_experts or 1, n_init=settings.n_starts, random_state=seed).fit(graph)
        random = _random(neurons[key], settings, seed)
        return Division(neurons[key], fitted.labels_, fitted.cut_, cut(graph, random.labels))

    # A run has one set of coactivations for each activity, with more or fewer partners.
    provenance = {"activity": activity, "n_pairs": [n_pairs[key] for key in neurons]}
    return Source(origin, neurons, divide, provenance=provenance)


def _matched(
    database: Database, run: Run, origin: Origin, other: StoredPartition, settings: PartitionSettings
) -> Source:
    """Permute the experts of a partition among neurons in the same bins of norm and firing rate."""
    if (other.model, other.revision) != (run.model, run.revision):
        raise AnalysisError(
            f"partition {other.partition_id} is of {other.model} {other.revision}, run {run.run_id} of {run.model} "
            f"{run.revision}"
        )
    query = "select stack, layer, neuron, input_norm, firing_rate from neurons where run_id = ?"
    known = database.sql(query, [run.run_id]).pl()
    members = {
        (stack, layer): pl.DataFrame(columns).join(
            known.filter(stack=stack, layer=layer), on="neuron", how="left", maintain_order="left"
        )
        for (stack, layer), columns in other.layers.items()
    }
    n_unknown = sum(rows["input_norm"].null_count() for rows in members.values())
    if n_unknown:
        raise AnalysisError(
            f"run {run.run_id} holds no norm and firing rate of {n_unknown:,} of the "
            f"{sum(rows.height for rows in members.values()):,} neurons of partition {other.partition_id}"
        )
    members = _chosen(members, settings)

    def divide(key: Key, seed: int) -> Division:
        rows = {column.name: column.to_numpy() for column in members[key]}
        codes = strata(rows["input_norm"], rows["firing_rate"], n_bins=_MATCHED_BINS)
        return Division(rows["neuron"], permute_within(rows["expert"], codes, np.random.default_rng(seed)))

    neurons = {key: rows["neuron"].to_numpy() for key, rows in members.items()}
    return Source(origin, neurons, divide, provenance={"matched": other.partition_id, "n_bins": _MATCHED_BINS})


def _native(
    database: Database, run: Run, origin: Origin, n_neurons: Mapping[Key, int], settings: PartitionSettings
) -> Source:
    """Take the experts that the model itself has; neurons that every token passes are in none."""
    query = "select stack, layer, neuron, native_expert from neurons where run_id = ? and native_expert is not null"
    members = by_layer(database.sql(query, [run.run_id]).arrow())
    divisions = {
        key: Division(members[key]["neuron"], members[key]["native_expert"])
        for key in _chosen(n_neurons, settings)
        if key in members
    }
    if not divisions:
        raise AnalysisError(f"run {run.run_id}: no chosen layer of {run.model} {run.revision} has native experts")
    neurons = {key: division.neurons for key, division in divisions.items()}
    n_experts = [len(np.unique(division.labels)) for division in divisions.values()]
    return Source(origin, neurons, lambda key, _: divisions[key], provenance={"n_native_experts": n_experts})


def _chosen(layers: Mapping[Key, _OfLayer], settings: PartitionSettings) -> dict[Key, _OfLayer]:
    """Return those layers that the settings choose; refuse layers that are not there."""
    known = sorted({layer for _, layer in layers})
    chosen = known if settings.layers is None else settings.layers
    unknown = [layer for layer in chosen if layer not in known]
    if unknown or settings.layers == ():
        raise AnalysisError(f"no layer {unknown} to partition; there are {', '.join(map(str, known))}")
    return {key: value for key, value in layers.items() if key[1] in chosen}


def _whole(n_neurons: Mapping[Key, int]) -> dict[Key, NDArray[np.integer]]:
    return {key: np.arange(n, dtype=np.int32) for key, n in n_neurons.items()}


def _clustered(
    origin: Origin,
    neurons: Mapping[Key, NDArray[np.integer]],
    vectors: Callable[[Key], NDArray[np.floating]],
    settings: PartitionSettings,
    warm_start: StoredPartition | None,
    provenance: Mapping[str, object],
) -> Source:
    """Return neurons to be clustered by their vectors: `vectors` takes a layer, returns [members, features]."""
    from .kmeans import BalancedKMeans, cluster_means, inertia, unit_rows

    n_experts = settings.n_experts or 1
    if warm_start is not None:
        warm_start.check_start(origin, neurons, n_experts)
        provenance = {**provenance, "warm_start": warm_start.partition_id}

    def divide(key: Key, seed: int) -> Division:
        rows = vectors(key)
        rows = unit_rows(rows) if settings.normalize else rows
        init = "k-means++" if warm_start is None else cluster_means(rows, warm_start.layers[key]["expert"])
        estimator = BalancedKMeans(n_experts, normalize=False, init=init, n_init=settings.n_starts, random_state=seed)
        fitted = estimator.fit(rows)
        random = _random(neurons[key], settings, seed)
        return Division(neurons[key], fitted.labels_, fitted.inertia_, inertia(rows, random.labels))

    return Source(origin, neurons, divide, provenance=provenance)


def _random(neurons: NDArray[np.integer], settings: PartitionSettings, seed: int) -> Division:
    return Division(neurons, RandomPartition(settings.n_experts or 1, random_state=seed).fit(neurons).labels_)
