"""Where the neurons of a partition come from, and how those of one layer are divided into experts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import AnalysisError, UnknownNameError
from ...queries.database import Database
from ...queries.quoting import literal
from ...queries.statements import statement
from ..lookup import Run, find_partition, find_run
from ..permutations import permute_within, strata
from .chance import RandomPartition
from .features import features_sha256, read_features
from .rows import Division, LayerNeurons, Origin
from .settings import PartitionSettings
from .stored import StoredPartition, by_layer

if TYPE_CHECKING:
    from ...ingest.models.model import Model

_Key = tuple[str, int]  # stack and layer
_MATCHED_BINS = 5  # quantile bins of norm, and of firing rate, at most
_SCORES = {"all": "ranking", "a": "ranking_half_a", "b": "ranking_half_b"}


@dataclass(frozen=True, slots=True)
class Source:
    """Neurons that are divided into experts, layer by layer."""

    origin: Origin
    layers: tuple[LayerNeurons, ...]
    divide: Callable[[LayerNeurons, int], Division]  # takes a layer and its seed
    source_query: str | None = None  # the SQL whose rows are clustered
    n_excluded: int = 0  # neurons of the chosen layers that are in no expert
    provenance: Mapping[str, object] = field(default_factory=dict)  # what else the experts depend on, as JSON values


def weight_source(loaded: "Model", settings: PartitionSettings, *, warm_start: StoredPartition | None = None) -> Source:
    """Return the neurons of all stacks of a model, to be clustered by their weights.

    Raises `IngestError` if the model has no such weights, and `AnalysisError` if it has no such layer, or not the
    neurons of the warm start.
    """
    from ...ingest.neurons.weights import weight_vectors

    layers = {(str(layer.stack), layer.layer): layer for layer in loaded.layers()}

    def vectors(layer: LayerNeurons) -> NDArray[np.floating]:
        return weight_vectors(loaded.module, layers[layer.key], settings.features)

    origin = Origin(loaded.name, loaded.revision, loaded.step)
    chosen = _whole(_chosen({key: layer.n_neurons for key, layer in layers.items()}, settings))
    return _clustered(origin, chosen, vectors, settings, warm_start, {"weights_sha256": loaded.weights_sha256})


def stored_source(
    database: Database,
    model: str,
    settings: PartitionSettings,
    *,
    revision: str | None,
    warm_start: StoredPartition | None = None,
) -> Source:
    """Return the neurons of a run, to be divided by what the store holds of them.

    Raises `UnknownNameError` if the store has no such model, revision, run or activity, or several, and `AnalysisError`
    if the run does not hold what the method needs, has no such layer, or not the neurons of the warm start.
    """
    # All runs of a checkpoint have the same neurons and native experts.
    is_any = settings.method == "native" or (settings.method == "random" and settings.matched is None)
    run = find_run(database, settings.run, model, revision=revision, is_any=is_any)
    origin = Origin(run.model, run.revision, run.step, None if is_any else run.run_id)
    query = "select stack, layer, n_neurons from layers where run_id = ? order by stack, layer"
    rows = database.sql(query, [run.run_id]).arrow().to_pylist()
    n_neurons = {(row["stack"], row["layer"]): row["n_neurons"] for row in rows}
    stored = _StoredRun(database, run, origin, n_neurons, settings)
    match settings.method:
        case "coactivation":
            return stored.coactivation()
        case "random":
            return stored.random() if settings.matched is None else stored.matched(settings.matched)
        case "native":
            return stored.native()
        case "function":
            return stored.rows_of(stored.score_query(), warm_start)
        case "kmeans":
            return stored.rows_of(settings.query or "", warm_start)


@dataclass(frozen=True, slots=True)
class _StoredRun:
    """A run in the store whose neurons are divided; each method returns the source of one way to do it."""

    database: Database
    run: Run
    origin: Origin
    n_neurons: Mapping[_Key, int]
    settings: PartitionSettings

    def score_query(self) -> str:
        """Return SQL that yields the scores of each neuron for all functions."""
        # NULL stands where the half lacks a class of the function, so in all neurons alike.
        score = _SCORES[self.settings.half]
        return (
            f"select stack, layer, neuron, list({score} order by family, function) filter ({score} is not null) as "
            f"scores from neuron_scores where run_id = {literal(self.run.run_id)} group by all"
        )

    def rows_of(self, query: str, warm_start: StoredPartition | None) -> Source:
        """Return the neurons that a query yields, to be clustered by its features."""
        vectors = read_features(self.database, query, self.n_neurons)
        layers = _whole(_chosen({key: len(rows) for key, rows in vectors.items()}, self.settings))
        provenance = {"features_sha256": features_sha256({layer.key: vectors[layer.key] for layer in layers})}
        source = _clustered(
            self.origin, layers, lambda layer: vectors[layer.key], self.settings, warm_start, provenance
        )
        return replace(source, source_query=query)

    def coactivation(self) -> Source:
        """Partition the graph of the Jaccard indices of each neuron with its closest partners."""
        run = self.run
        query = "select activity, stack, layer, count(*) as n_pairs from coactivations where run_id = ? group by all"
        counts = self.database.sql(query, [run.run_id]).arrow().to_pylist()
        activities = sorted({row["activity"] for row in counts})
        if not activities:
            raise AnalysisError(
                f"run {run.run_id} has no coactivations in {self.database.store.path}: 'neuronlake ingest {run.model} "
                f"--corpus {run.corpus} --coactivation' makes them"
            )
        if self.settings.activity is None and len(activities) > 1:
            raise AnalysisError(f"run {run.run_id} has coactivations of several activities: {', '.join(activities)}")
        activity = self.settings.activity or activities[0]
        if activity not in activities:
            raise UnknownNameError("activity", activity, activities, where=f"the coactivations of run {run.run_id}")
        n_pairs = {(row["stack"], row["layer"]): row["n_pairs"] for row in counts if row["activity"] == activity}
        layers = _whole(_chosen({key: n for key, n in self.n_neurons.items() if key in n_pairs}, self.settings))
        # A run has one set of coactivations for each activity, with more or fewer partners.
        provenance = {"activity": activity, "n_pairs": [n_pairs[layer.key] for layer in layers]}
        return self._source(layers, lambda layer, seed: self._partition_graph(layer, activity, seed), provenance)

    def _partition_graph(self, layer: LayerNeurons, activity: str, seed: int) -> Division:
        from scipy import sparse

        from .graph import GraphPartition, cut

        rows = self.database.sql(
            "select neuron, partner, n_both / (n_active + n_active_partner - n_both) as weight from coactivations "
            "where run_id = ? and activity = ? and stack = ? and layer = ?",
            [self.run.run_id, activity, *layer.key],
        ).arrow()
        neuron, partner, weight = (rows.column(name).to_numpy() for name in ("neuron", "partner", "weight"))
        size = len(layer.neurons)
        one_way = sparse.csr_array((weight, (neuron, partner)), shape=(size, size))
        graph = one_way.maximum(one_way.T)  # either may be among the other's closest
        n_experts, n_starts = self.settings.n_experts or 1, self.settings.n_starts
        fitted = GraphPartition(n_experts, n_init=n_starts, random_state=seed).fit(graph)
        return Division(fitted.labels_, fitted.cut_, cut(graph, _random_labels(size, n_experts, seed)))

    def random(self) -> Source:
        """Draw experts at random."""
        n_experts = self.settings.n_experts or 1
        return self._source(
            _whole(_chosen(self.n_neurons, self.settings)),
            lambda layer, seed: Division(_random_labels(len(layer.neurons), n_experts, seed)),
            {},
        )

    def matched(self, prefix: str) -> Source:
        """Permute the experts of a partition among neurons in the same bins of norm and firing rate."""
        partition, run = find_partition(self.database, prefix), self.run
        if (partition.model, partition.revision) != (run.model, run.revision):
            raise AnalysisError(
                f"partition {partition.partition_id} is of {partition.model} {partition.revision}, run {run.run_id} of "
                f"{run.model} {run.revision}"
            )
        parameters = {"run": run.run_id, "partition": partition.partition_id}
        rows = self.database.sql(statement("partition_matched_neurons"), parameters).arrow()
        n_unknown = rows.column("input_norm").null_count
        if n_unknown:
            raise AnalysisError(
                f"run {run.run_id} holds no norm and firing rate of {n_unknown:,} of the {rows.num_rows:,} neurons "
                f"of partition {partition.partition_id}"
            )
        members = by_layer(rows)
        chosen = _chosen({key: len(columns["neuron"]) for key, columns in members.items()}, self.settings)
        source = matched_source(self.origin, partition.partition_id, {key: members[key] for key in chosen})
        return self._source(source.layers, source.divide, source.provenance)

    def native(self) -> Source:
        """Take the experts that the model itself has; neurons that every token passes are in none."""
        query = "select stack, layer, neuron, native_expert from neurons where run_id = ? and native_expert is not null"
        members = by_layer(self.database.sql(query, [self.run.run_id]).arrow())
        chosen = [key for key in _chosen(self.n_neurons, self.settings) if key in members]
        if not chosen:
            run = self.run
            raise AnalysisError(f"run {run.run_id}: no chosen layer of {run.model} {run.revision} has native experts")
        return self._source(
            tuple(LayerNeurons(*key, members[key]["neuron"]) for key in chosen),
            lambda layer, _: Division(members[layer.key]["native_expert"]),
            {"n_native_experts": [len(np.unique(members[key]["native_expert"])) for key in chosen]},
        )

    def _source(
        self,
        layers: tuple[LayerNeurons, ...],
        divide: Callable[[LayerNeurons, int], Division],
        provenance: Mapping[str, object],
    ) -> Source:
        chosen = self.settings.layers
        n_chosen = sum(n for (_, layer), n in self.n_neurons.items() if chosen is None or layer in chosen)
        n_excluded = n_chosen - sum(len(layer.neurons) for layer in layers)
        return Source(self.origin, layers, divide, n_excluded=n_excluded, provenance=provenance)


def matched_source(origin: Origin, partition_id: str, members: Mapping[_Key, Mapping[str, NDArray[Any]]]) -> Source:
    """Return the neurons of a partition, whose experts are to be permuted within bins of input norm and firing rate.

    `members` has, for each layer, the columns ``neuron``, ``expert``, ``input_norm`` and ``firing_rate`` [members].
    """

    def divide(layer: LayerNeurons, seed: int) -> Division:
        columns = members[layer.key]
        codes = strata(columns["input_norm"], columns["firing_rate"], n_bins=_MATCHED_BINS)
        return Division(permute_within(columns["expert"], codes, np.random.default_rng(seed)))

    layers = tuple(LayerNeurons(*key, columns["neuron"]) for key, columns in members.items())
    provenance = {"matched": partition_id, "n_bins": _MATCHED_BINS}
    return Source(origin, layers, divide, provenance=provenance)


def _chosen(n_neurons: Mapping[_Key, int], settings: PartitionSettings) -> dict[_Key, int]:
    """Return the number of neurons of each layer that the settings choose; refuse layers that are not there."""
    if settings.layers is None:
        return dict(n_neurons)
    known = sorted({layer for _, layer in n_neurons})
    unknown = [layer for layer in settings.layers if layer not in known]
    if unknown or not settings.layers:
        raise AnalysisError(f"no layer {unknown} to partition; there are {', '.join(map(str, known))}")
    return {key: n for key, n in n_neurons.items() if key[1] in settings.layers}


def _whole(n_neurons: Mapping[_Key, int]) -> tuple[LayerNeurons, ...]:
    return tuple(LayerNeurons(*key, np.arange(n, dtype=np.int32)) for key, n in n_neurons.items())


def _clustered(
    origin: Origin,
    layers: tuple[LayerNeurons, ...],
    vectors: Callable[[LayerNeurons], NDArray[np.floating]],
    settings: PartitionSettings,
    warm_start: StoredPartition | None,
    provenance: Mapping[str, object],
) -> Source:
    """Return neurons to be clustered by their vectors: `vectors` takes a layer, returns [members, features]."""
    from .kmeans import BalancedKMeans, inertia, unit_rows

    n_experts = settings.n_experts or 1
    if warm_start is not None:
        warm_start.check_start(origin, layers, n_experts)
        provenance = {**provenance, "warm_start": warm_start.partition_id}

    def divide(layer: LayerNeurons, seed: int) -> Division:
        rows = vectors(layer)
        rows = unit_rows(rows) if settings.normalize else rows
        init = "k-means++" if warm_start is None else warm_start.centres(layer, rows)
        estimator = BalancedKMeans(n_experts, normalize=False, init=init, n_init=settings.n_starts, random_state=seed)
        fitted = estimator.fit(rows)
        return Division(fitted.labels_, fitted.inertia_, inertia(rows, _random_labels(len(rows), n_experts, seed)))

    return Source(origin, layers, divide, provenance=provenance)


def _random_labels(n_neurons: int, n_experts: int, seed: int) -> NDArray[np.int32]:
    labels: NDArray[np.int32] = RandomPartition(n_experts, random_state=seed).fit(range(n_neurons)).labels_
    return labels
