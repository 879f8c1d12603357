"""Where the neurons of a partition and their vectors come from, and how those of one layer are divided into experts."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from ...errors import AnalysisError, check_known
from ...queries.database import Database
from ...queries.quoting import literal
from ..lookup import Run, find_run
from ..neuron_rows import KEYS, check_null, numbers, read_neurons
from .chance import RandomPartition, permute_within, strata
from .clustering import BalancedKMeans, GraphPartition, cluster_means, cut, inertia, unit_rows
from .settings import PartitionSettings
from .stored import Division, Key, Origin, StoredPartition, by_layer

if TYPE_CHECKING:
    from ...ingest.models.model import Model

_OfLayer = TypeVar("_OfLayer")
_Sizes = Mapping[Key, int]  # neurons of each layer
_MATCHED_BINS = 5  # quantile bins of norm, and of firing rate, at most
_QUERY = "the query"  # as errors name it
_SCORES = {"all": "ranking", "a": "ranking_half_a", "b": "ranking_half_b"}


@dataclass(frozen=True, slots=True)
class Source:
    """Neurons that are divided into experts, layer by layer."""

    origin: Origin
    neurons: Mapping[Key, NDArray[np.integer]]  # of each layer, ascending [members]
    divide: Callable[[Key, int], Division]  # takes a layer and its seed
    source_query: str | None = None  # the SQL whose rows are clustered
    n_excluded: int = 0  # neurons of the chosen layers that are in no expert
    provenance: Mapping[str, object] = field(default_factory=dict)  # what else the experts depend on, as JSON values


def weight_source(loaded: "Model", settings: PartitionSettings, warm_start: StoredPartition | None = None) -> Source:
    """Return the neurons of all stacks of a model, to be clustered by their weights; refuse what it does not have."""
    from ...ingest.neurons.weights import weight_vectors

    layers = _chosen({(str(layer.stack), layer.layer): layer for layer in loaded.layers()}, settings)
    origin = Origin(loaded.name, loaded.revision, loaded.step)
    neurons = _whole({key: layer.n_neurons for key, layer in layers.items()})
    provenance = {"weights_sha256": loaded.weights_sha256}

    def vectors(key: Key) -> NDArray[np.floating]:
        return weight_vectors(loaded.module, layers[key], settings.features)

    return _clustered(origin, neurons, vectors, settings, warm_start, provenance)


def stored_source(
    database: Database,
    model: str,
    settings: PartitionSettings,
    other: StoredPartition | None = None,  # the one to start from, or whose experts are permuted
    *,
    revision: str | None,
) -> Source:
    """Return the neurons of a run, to be divided by what the store holds of them; refuse what it does not hold."""
    # All runs of a checkpoint have the same neurons and native experts.
    is_any = settings.method == "native" or (settings.method == "random" and settings.matched is None)
    run = find_run(database, settings.run, model, revision=revision, is_any=is_any)
    origin = Origin(run.model, run.revision, run.step, None if is_any else run.run_id)
    measured = database.ask("measured_layers", run=run.run_id).pl()
    n_neurons = {(stack, layer): n for stack, layer, n in measured.iter_rows()}
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
                scores = f"list({score} order by family, function) filter ({score} is not null) as scores"
                of_run = f"from neuron_scores where run_id = {literal(run.run_id)} group by all"
                query = f"select stack, layer, neuron, {scores} {of_run}"
            vectors = _chosen(read_features(database, query, n_neurons), settings)
            neurons = _whole({key: len(rows) for key, rows in vectors.items()})
            provenance = {"features_sha256": features_sha256(vectors)}
            source = _clustered(origin, neurons, vectors.__getitem__, settings, other, provenance)
            return replace(source, source_query=query)
    n_chosen = sum(_chosen(n_neurons, settings).values())
    return replace(source, n_excluded=n_chosen - sum(map(len, source.neurons.values())))


def _coactivation(database: Database, run: Run, origin: Origin, sizes: _Sizes, settings: PartitionSettings) -> Source:
    """Partition the graph of the Jaccard indices of each neuron with its closest partners."""
    counts = database.ask("partition_activities", run=run.run_id).arrow().to_pylist()
    activities = sorted({row["activity"] for row in counts})
    if not activities:
        command = f"neuronlake ingest {run.model} --corpus {run.corpus} --coactivation"
        raise AnalysisError(f"run {run.run_id} has no coactivations in {database.store}: '{command}' makes them")
    if settings.activity is None and len(activities) > 1:
        raise AnalysisError(f"run {run.run_id} has coactivations of several activities: {', '.join(activities)}")
    activity = settings.activity or activities[0]
    check_known("activity", [activity], activities, where=f"the coactivations of run {run.run_id}")
    n_pairs = {(row["stack"], row["layer"]): row["n_pairs"] for row in counts if row["activity"] == activity}
    neurons = _whole(_chosen({key: n for key, n in sizes.items() if key in n_pairs}, settings))

    def divide(key: Key, seed: int) -> Division:
        place = {"run": run.run_id, "activity": activity, "stack": key[0], "layer": key[1]}
        rows = database.ask("partition_coactivations", **place).arrow()
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
        problem = f"partition {other.partition_id} is of {other.model} {other.revision}"
        raise AnalysisError(f"{problem}, run {run.run_id} of {run.model} {run.revision}")
    known = database.ask("partition_matching", run=run.run_id).pl()
    members = {}
    for (stack, layer), columns in other.layers.items():
        of_layer = known.filter(stack=stack, layer=layer)
        members[stack, layer] = pl.DataFrame(columns).join(of_layer, on="neuron", how="left", maintain_order="left")
    if n_unknown := sum(rows["input_norm"].null_count() for rows in members.values()):
        whose = f"the {sum(rows.height for rows in members.values()):,} neurons of partition {other.partition_id}"
        raise AnalysisError(f"run {run.run_id} holds no norm and firing rate of {n_unknown:,} of {whose}")
    members = _chosen(members, settings)

    def divide(key: Key, seed: int) -> Division:
        rows = {column.name: column.to_numpy() for column in members[key]}
        codes = strata(rows["input_norm"], rows["firing_rate"], n_bins=_MATCHED_BINS)
        return Division(rows["neuron"], permute_within(rows["expert"], codes, np.random.default_rng(seed)))

    neurons = {key: rows["neuron"].to_numpy() for key, rows in members.items()}
    return Source(origin, neurons, divide, provenance={"matched": other.partition_id, "n_bins": _MATCHED_BINS})


def _native(database: Database, run: Run, origin: Origin, n_neurons: _Sizes, settings: PartitionSettings) -> Source:
    """Take the experts that the model itself has; neurons that every token passes are in none."""
    members = by_layer(database.ask("partition_native_experts", run=run.run_id).arrow())
    chosen = [key for key in _chosen(n_neurons, settings) if key in members]
    divisions = {key: Division(members[key]["neuron"], members[key]["native_expert"]) for key in chosen}
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


def _whole(n_neurons: _Sizes) -> dict[Key, NDArray[np.integer]]:
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


def features_sha256(vectors: Mapping[Key, NDArray[np.float64]]) -> str:
    """Return the digest of what `read_features` returns."""
    digest = hashlib.sha256()
    for (stack, layer), features in vectors.items():
        digest.update(f"{stack} {layer} {features.shape}\n".encode())
        digest.update(np.ascontiguousarray(features).data)
    return digest.hexdigest()


def read_features(database: Database, query: str, n_neurons: _Sizes) -> dict[Key, NDArray[np.float64]]:
    """Run a query and return the features of its neurons [neurons, features], by stack and layer, both sorted.

    Features are all columns beside stack, layer and neuron, in order: finite numbers, or lists of them of one length.
    """
    rows = database.sql(query).arrow()
    keys = read_neurons(rows, _QUERY)
    if keys.is_empty():
        raise AnalysisError("the query yields no rows")
    names = [name for name in rows.column_names if name not in KEYS]
    if not names:
        raise AnalysisError("the query yields no features beside stack, layer and neuron")
    features = np.column_stack([_feature(name, rows.column(name).combine_chunks()) for name in names])
    if not features.shape[1]:
        raise AnalysisError(f"the query's lists {', '.join(names)} are empty")
    layers = by_layer(keys.with_row_index("row"))
    for key, columns in layers.items():
        _check_neurons(key, columns["neuron"], n_neurons)
    return {key: features[columns["row"]] for key, columns in layers.items()}


def _check_neurons(key: Key, neuron: NDArray[np.int64], n_neurons: _Sizes) -> None:
    """Refuse neurons, which ascend, that are not all neurons of the layer, each once."""
    where = f"{key[0]} layer {key[1]}"
    if key not in n_neurons:
        known = ", ".join(f"{stack} {layer}" for stack, layer in n_neurons)
        raise AnalysisError(f"the query yields {where}, which the store does not know; it has {known}")
    n = n_neurons[key]
    if len(repeated := neuron[1:][neuron[1:] == neuron[:-1]]):
        raise AnalysisError(f"the query yields {where}, neuron {repeated[0]} more than once")
    if len(unknown := neuron[(neuron < 0) | (neuron >= n)]):
        raise AnalysisError(f"the query yields {where}, neuron {unknown[0]}; the layer has {n:,} neurons")
    if len(absent := np.setdiff1d(np.arange(n), neuron)):
        lacks = f"{len(absent):,} of the {n:,} neurons of {where}"
        raise AnalysisError(f"the query lacks {lacks}, neuron {absent[0]} the first")


def _feature(name: str, column: pa.Array) -> NDArray[np.float64]:
    """Return a column of numbers, or of lists that are as long in every row. [rows, features]."""
    n_rows = len(column)
    check_null(column, name, _QUERY)
    if isinstance(column, pa.ListArray | pa.FixedSizeListArray | pa.LargeListArray):
        lengths = pc.min_max(pc.list_value_length(column)).as_py()
        if lengths["min"] != lengths["max"]:
            raise AnalysisError(f"the query's lists {name} have from {lengths['min']} to {lengths['max']} numbers")
        column = column.flatten()
    return numbers(column, name, _QUERY).reshape(n_rows, -1)
