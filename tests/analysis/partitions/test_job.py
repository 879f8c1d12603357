"""Partitions of measured models: what is stored, what it joins to, and what is refused."""

import dataclasses
import json
import re
from collections import Counter
from unittest.mock import ANY

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import adjusted_rand_score

from neuronlake.analysis.lookup import Partition, starting_with
from neuronlake.analysis.partitions.chance import layer_seed
from neuronlake.analysis.partitions.clustering import BalancedKMeans
from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.errors import AnalysisError, NeuronlakeError, StoreError, UnknownNameError
from neuronlake.queries.database import Database
from neuronlake.schema.conformance import arrow_schema
from neuronlake.schema.tables import table

# Neuron 0 to 63 of each layer, in four groups by the remainder of its index.
BY_REMAINDER = "select stack, layer, neuron, cos(neuron % 4) as x, [sin(neuron % 4), neuron / 1e6] as y from neurons"


@pytest.fixture
def with_coactivations(stored):
    """Return a function that makes a store whose neurons are active together with those of like remainder by 4."""

    def make(*activities):
        store = stored("bert")
        with Database(store) as database:
            run = next(iter(database.sql("select run_id, model, revision, step from runs")))
        rows = [
            {
                **run, "activity": activity, "stack": "encoder", "layer": layer, "neuron": neuron, "partner": partner,
                "n_both": 9 if neuron % 4 == partner % 4 else 1, "n_active": 10, "n_active_partner": 10,
            }
            for activity in activities
            for layer in range(2)
            for neuron in range(64)
            for partner in ((neuron + 4) % 64, (neuron + 8) % 64, (neuron + 1) % 64)
        ]  # fmt: skip
        rows.sort(key=lambda row: tuple(row[name] for name in table("coactivations").grain))
        with store.job("coactivation-test", kind="coactivation") as job:
            data = pa.Table.from_pylist(rows, schema=arrow_schema(table("coactivations")))
            job.write("coactivations", data, model=run["model"], revision=run["revision"])
            job.commit()
        return store

    return make


METHODS = {
    "kmeans": {"method": "kmeans"},
    "query": {"method": "kmeans", "query": BY_REMAINDER},
    "function": {"method": "function"},
    "coactivation": {"method": "coactivation"},
    "random": {"method": "random"},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_neuron_is_in_one_of_equal_experts(name, with_coactivations, partition):
    store = with_coactivations("positive")
    report = partition(store, **METHODS[name])
    assert report.is_new
    assert (report.n_layers, report.n_experts, report.n_neurons, report.n_excluded) == (2, 4, 128, 0)
    assert (report.n_smallest, report.n_largest) == (16, 16)
    with Database(store) as database:
        (counts,) = database.sql(
            "select count(*), count(distinct (stack, layer, neuron)), count(neurons.run_id) from neurons "
            "full join experts using (stack, layer, neuron) where partition_id = ?",
            [report.partition_id],
        ).rows()
        sizes = database.sql("select layer, expert, count(*) from experts group by all order by all").rows()
    assert counts == (128, 128, 128)
    assert sizes == [(layer, expert, 16) for layer in range(2) for expert in range(4)]


@pytest.mark.parametrize("name", METHODS)
def test_the_same_again_changes_nothing(name, with_coactivations, partition, read_rows):
    store = with_coactivations("positive")
    first = partition(store, **METHODS[name])
    files = {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}
    again = partition(store, **METHODS[name])
    assert (again.partition_id, again.is_new) == (first.partition_id, False)
    assert (again.objective, again.n_neurons, again.method) == (first.objective, first.n_neurons, first.method)
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()} == files
    assert again.describe().endswith("; already in the store, nothing done")


@pytest.mark.parametrize("name", METHODS)
def test_another_seed_is_another_partition(name, with_coactivations, partition):
    store = with_coactivations("positive")
    first, other = (partition(store, seed=seed, **METHODS[name]) for seed in (0, 1))
    assert first.partition_id != other.partition_id
    assert other.is_new


@pytest.mark.parametrize("name", METHODS)
def test_a_layer_has_the_same_experts_alone(name, with_coactivations, partition, read_rows, labels):
    store = with_coactivations("positive")
    both, alone = (partition(store, layers=layers, **METHODS[name]) for layers in (None, (1,)))
    assert labels(store, read_rows, alone) == {("encoder", 1): labels(store, read_rows, both)["encoder", 1]}


def test_to_name_all_layers_is_to_name_none(stored, partition):
    store = stored("bert")
    first, again = (partition(store, method="random", layers=layers) for layers in (None, (1, 0, 1)))
    assert (again.partition_id, again.is_new) == (first.partition_id, False)


def test_kmeans_clusters_the_input_weights_of_each_layer(stored, partition, read_rows, tiny_model, labels):
    from transformers import AutoModel

    store = stored("bert")
    report = partition(store, method="kmeans")
    blocks = AutoModel.from_pretrained(tiny_model("bert")).encoder.layer
    objective = 0
    for layer, found in enumerate(labels(store, read_rows, report).values()):
        rows = blocks[layer].intermediate.dense.weight.detach().numpy()
        fitted = BalancedKMeans(4, random_state=layer_seed(0, "encoder", layer)).fit(rows)
        assert found == fitted.labels_.tolist()
        objective += fitted.inertia_
    assert report.objective == pytest.approx(objective / 2)  # the mean over layers


def test_what_defines_a_partition_is_stored_beside_it(stored, partition, read_rows):
    store = stored("llama")
    report = partition(store, "llama", method="kmeans", features="gate", seed=3, layers=(1,), normalize=False)
    (row,) = read_rows(store, "partitions")
    parameters = json.loads(row.pop("parameters"))
    assert len(parameters.pop("weights_sha256")) == 64
    assert parameters == {"layers": [1], "features": "gate", "n_starts": 4, "normalize": False}
    assert row.pop("duration_s") > 0
    assert row.pop("neuronlake_version")
    assert row == {
        "partition_id": report.partition_id, "model": "tiny-llama", "revision": "main", "step": None,
        "method": "kmeans", "n_experts": 4, "seed": 3, "run_id": None, "half": None, "source_query": None,
        "objective_name": "inertia", "objective": report.objective,
    }  # fmt: skip
    (layer,) = read_rows(store, "partition_layers")
    assert layer == {
        "partition_id": report.partition_id, "stack": "decoder", "layer": 1, "n_neurons": 64, "n_experts": 4,
        "n_smallest": 16, "n_largest": 16, "objective": report.objective, "objective_random": report.objective_random,
    }  # fmt: skip
    assert report.objective < report.objective_random


def test_a_random_initialisation_is_a_revision_of_its_own(stored, partition):
    store = stored("bert")
    trained, drawn = (partition(store, method="kmeans", random_init=seed) for seed in (None, 5))
    assert (trained.revision, drawn.revision) == ("main", "random-5")
    assert trained.partition_id != drawn.partition_id


def test_of_an_encoder_decoder_both_stacks_are_partitioned_whatever_was_measured(stored, partition):
    reports = [partition(stored(kind), "t5", method="kmeans") for kind in ("t5", "bert")]  # bert's store has no t5
    assert [report.n_layers for report in reports] == [4, 4]
    assert reports[0].partition_id == reports[1].partition_id


def test_a_name_that_no_store_can_hold_is_refused_before_the_model_is_loaded(tmp_path):
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreError, match=r"model 'x\.parquet' cannot be stored under this name"):
        partition_model("absent", store=tmp_path / "store", settings=PartitionSettings("kmeans", 2), name="x.parquet")


def test_kmeans_already_stored_is_not_clustered_again(stored, partition, monkeypatch):
    store = stored("bert")
    partition(store, method="kmeans")
    monkeypatch.setattr(BalancedKMeans, "fit", None)
    assert not partition(store, method="kmeans").is_new


@pytest.mark.parametrize("name", ["query", "coactivation"])
def test_planted_groups_are_recovered(name, with_coactivations, partition, read_rows, labels):
    store = with_coactivations("positive")
    report = partition(store, **METHODS[name])
    for found in labels(store, read_rows, report).values():
        assert adjusted_rand_score(np.arange(64) % 4, found) == 1
    assert report.objective < report.objective_random / 4


def test_the_cut_is_of_the_jaccard_indices(with_coactivations, partition):
    store = with_coactivations("positive")
    report = partition(store, method="coactivation")
    # Each neuron has two edges of 9 / 11 to its own group and one of 1 / 19 to the next.
    assert report.objective == pytest.approx((1 / 19) / (2 * 9 / 11 + 1 / 19))
    assert report.objective_name == "cut"


def test_one_of_several_activities_must_be_chosen(with_coactivations, partition, read_rows):
    store = with_coactivations("positive", "top-0.1")
    with pytest.raises(AnalysisError, match=r"has coactivations of several activities: positive, top-0\.1"):
        partition(store, method="coactivation")
    with pytest.raises(UnknownNameError, match=r"no activity 'top-0.2' .*; did you mean 'top-0.1'\?"):
        partition(store, method="coactivation", activity="top-0.2")
    report = partition(store, method="coactivation", activity="top-0.1")
    assert json.loads(read_rows(store, "partitions")[0]["parameters"])["activity"] == "top-0.1"
    assert report.n_layers == 2


def test_without_coactivations_the_error_says_how_to_make_them(stored, partition):
    message = r"has no coactivations in .*: 'neuronlake ingest tiny-bert --corpus test --coactivation' makes them"
    with pytest.raises(AnalysisError, match=message):
        partition(stored("bert"), method="coactivation")


def test_a_query_is_stored_and_its_features_are_all_its_other_columns(stored, partition, read_rows):
    store = stored("bert")
    partition(store, method="kmeans", query=BY_REMAINDER)
    (row,) = read_rows(store, "partitions")
    assert (row["method"], row["source_query"]) == ("kmeans", BY_REMAINDER)
    assert row["run_id"] == read_rows(store, "runs")[0]["run_id"]
    assert len(json.loads(row["parameters"])["features_sha256"]) == 64


def test_rows_of_a_query_may_come_in_any_order(stored, partition, read_rows):
    store = stored("bert")
    first = partition(store, method="kmeans", query=BY_REMAINDER)
    again = partition(store, method="kmeans", query=f"{BY_REMAINDER} order by random()")
    assert not again.is_new
    assert again.partition_id == first.partition_id


@pytest.mark.parametrize("half", ["all", "a", "b"])
def test_function_clusters_the_lifts_of_each_neuron(half, stored, partition, read_rows, labels):
    store = stored("bert")
    report = partition(store, method="function", half=half)
    column = {"all": "lift", "a": "lift_half_a", "b": "lift_half_b"}[half]
    with Database(store) as database:
        rows = database.sql(
            f"select layer, neuron, family, function, {column} from neuron_scores where {column} is not null "
            "order by all"
        ).rows()
    assert len({row[2:4] for row in rows}) >= 2
    for layer, found in enumerate(labels(store, read_rows, report).values()):
        vectors = np.array([row[4] for row in rows if row[0] == layer]).reshape(64, -1)
        fitted = BalancedKMeans(4, random_state=layer_seed(0, "encoder", layer)).fit(vectors)
        assert found == fitted.labels_.tolist()
    (row,) = read_rows(store, "partitions")
    assert "neuron_scores" in row["source_query"]
    with Database(store) as database:  # the stored text is the query itself
        assert len(database.sql(row["source_query"])) == 128


def test_native_experts_are_the_models_own(stored, partition, read_rows, labels):
    store = stored("olmoe")
    report = partition(store, "olmoe", method="native", n_experts=None)
    assert labels(store, read_rows, report) == {("decoder", layer): sorted([0, 1, 2, 3] * 64) for layer in range(2)}
    assert (report.n_experts, report.n_smallest, report.n_largest) == (4, 64, 64)
    assert (report.objective_name, report.objective) == (None, None)
    assert read_rows(store, "partitions")[0]["seed"] is None


def test_neurons_of_no_native_expert_are_excluded_and_counted(stored, partition, read_rows):
    store = stored("switch")  # of its two layers one is dense
    report = partition(store, "switch", method="native", n_experts=None)
    assert (report.n_layers, report.n_neurons, report.n_excluded) == (1, 256, 64)
    assert ", 64 neurons excluded" in report.describe()


def test_a_model_without_native_experts_is_refused(stored, partition):
    with pytest.raises(AnalysisError, match="no chosen layer of tiny-bert main has native experts"):
        partition(stored("bert"), method="native", n_experts=None)


def test_a_matched_partition_keeps_the_experts_of_each_stratum(stored, partition, read_rows, labels):
    store = stored("bert")
    original = partition(store, method="kmeans")
    report = partition(store, method="random", matched=original.partition_id[:6], n_experts=None)
    before, after = (labels(store, read_rows, each) for each in (original, report))
    assert before.keys() == after.keys()
    for key in before:
        neurons = [row for row in read_rows(store, "neurons") if (row["stack"], row["layer"]) == key]
        norms = np.array([row["input_norm"] for row in neurons])
        fifth = np.searchsorted(np.quantile(norms, [0.2, 0.4, 0.6, 0.8]), norms)
        assert Counter(zip(fifth, before[key], strict=True)) == Counter(zip(fifth, after[key], strict=True))
        assert before[key] != after[key]
    assert json.loads(read_rows(store, "partitions", job=report.partition_id)[0]["parameters"]) == {
        "layers": None, "matched": original.partition_id, "n_bins": 5,
    }  # fmt: skip


def test_a_partition_is_named_by_digits_that_only_it_begins_with(stored, partition):
    store = stored("bert")
    ids = [partition(store, method="random", seed=seed).partition_id for seed in (0, 1)]
    with Database(store) as database:
        assert starting_with(database, Partition, ids[1][:12]).partition_id == ids[1]
        with pytest.raises(UnknownNameError, match=r"no single partition '' in .*tiny-bert, main, random, 4") as error:
            starting_with(database, Partition, "")
    assert all(each in str(error.value) for each in ids)


def test_sizes_that_do_not_divide_are_said(stored, partition):
    report = partition(stored("bert"), method="random", n_experts=5)
    assert (report.n_smallest, report.n_largest) == (12, 13)
    assert "5 experts a layer whose sizes differ, 12 to 13 neurons" in report.describe()


def test_the_report_is_one_line(stored, partition):
    line = partition(stored("bert"), method="kmeans").describe()
    pattern = (
        r"partition [0-9a-f]{16}: tiny-bert main by kmeans, 128 neurons of 2 layers, 4 experts a layer of 16 neurons, "
        r"inertia [\d.]+ \(random experts [\d.]+\), [\d.]+ s"
    )
    assert re.fullmatch(pattern, line)


def test_progress_counts_layers(stored, partition, recorded_progress):
    partition(stored("bert"), method="random", progress=recorded_progress)
    assert recorded_progress.seen == [("clustering", 2, "layers"), 1, 1]


def test_two_runs_of_a_model_must_be_told_apart(stored, partition, tiny_model, read_rows):
    from neuronlake.ingest.jobs.job import ingest_model
    from neuronlake.ingest.jobs.settings import Settings

    store = stored("bert")
    other = ingest_model(str(tiny_model("bert")), corpus="test", store=store.path, settings=Settings(pooling="mean"))
    with pytest.raises(
        UnknownNameError, match=r"no single run 'tiny-bert main' in .*main, test, activation, max.*mean"
    ):
        partition(store, method="function")
    report = partition(store, method="function", run=other.run_id[:8])
    assert read_rows(store, "partitions")[0]["run_id"] == other.run_id
    assert report.is_new


def test_chance_is_the_same_whichever_run_is_there(stored, partition, tiny_model, read_rows):
    from neuronlake.ingest.jobs.job import ingest_model
    from neuronlake.ingest.jobs.settings import Settings

    store = stored("bert")
    report = partition(store, method="random")
    assert read_rows(store, "partitions")[0]["run_id"] is None
    ingest_model(
        str(tiny_model("bert")), corpus="test", store=store.path, settings=Settings(pooling="mean", layers=(0,))
    )
    assert partition(store, method="random") == dataclasses.replace(report, is_new=False, duration_s=ANY)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"n_experts": 65}, AnalysisError, "65 experts of 64 neurons: encoder layer 0 of tiny-bert main has no more"),
        ({"n_experts": None}, AnalysisError, "method random needs n_experts: how many experts a layer has"),
        ({"n_experts": 0}, AnalysisError, "n_experts is 0; it must be at least 1"),
        ({"seed": -1}, AnalysisError, "seed is -1; it must be at least 0"),
        ({"layers": (0, 7)}, AnalysisError, r"no layer \[7\] to partition; there are 0, 1"),
        ({"method": "kmean"}, UnknownNameError, "no method 'kmean'; did you mean 'kmeans'"),
        ({"half": "a"}, AnalysisError, "`half` means nothing to method random; it is for function"),
        ({"query": "select 1"}, AnalysisError, "`query` means nothing to method random; it is for kmeans"),
        ({"method": "native"}, AnalysisError, "`n_experts` means nothing to method native; it is for kmeans, "),
        ({"random_init": 3}, AnalysisError, "for a random initialisation the revision random-<seed>"),
        ({"revision": "step5"}, UnknownNameError, "no revision 'step5' in tiny-bert in .*; available: main"),
        ({"run": "x"}, UnknownNameError, "no run 'x' in .*; available: [0-9a-f]{16} .tiny-bert, main, test, "),
        ({"matched": "x", "n_experts": None}, UnknownNameError, "no partition 'x' in .*; there are none"),
        ({"kind": "llama"}, UnknownNameError, "no model 'tiny-llama' in .*; available: tiny-bert"),
    ],
)  # fmt: skip
def test_what_cannot_be_partitioned_is_refused_in_one_line(arguments, kind, message, stored, partition):
    store = stored("bert")
    settings = {"method": "random", **arguments}
    with pytest.raises(kind, match=message) as error:
        partition(store, **settings)
    assert isinstance(error.value, NeuronlakeError)
    assert "\n" not in str(error.value)
    assert not store.files("experts")


def test_a_query_of_one_layer_partitions_that_layer(stored, partition, read_rows, labels):
    store = stored("bert")
    report = partition(store, method="kmeans", query=f"{BY_REMAINDER} where layer = 1")
    assert list(labels(store, read_rows, report)) == [("encoder", 1)]


def test_a_failed_partition_leaves_nothing_behind(stored, partition, monkeypatch):
    store = stored("bert")
    monkeypatch.setattr(BalancedKMeans, "fit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        partition(store, method="kmeans")
    assert not list((store.path / ".staging").glob("*/"))
    assert store.check() == ()
