"""Partitions that start from the experts of another."""

import json

import numpy as np
import pytest

from neuronlake.analysis.partitions.clustering import BalancedKMeans, unit_rows
from neuronlake.analysis.partitions.stored import Origin, StoredPartition
from neuronlake.errors import AnalysisError, NeuronlakeError

# Neuron 0 to 63 of each layer, in four groups by the remainder of its index.
BY_REMAINDER = "select stack, layer, neuron, cos(neuron % 4) as x, [sin(neuron % 4), neuron / 1e6] as y from neurons"
METHODS = {
    "kmeans": {"method": "kmeans"},
    "query": {"method": "kmeans", "query": BY_REMAINDER},
    "function": {"method": "function"},
}


@pytest.mark.parametrize("name", ["kmeans", "query", "function"])
def test_a_warm_start_goes_on_from_the_experts_of_a_partition(name, stored, partition, read_rows, labels):
    store = stored("bert")
    cold = partition(store, **METHODS[name])
    warm = partition(store, **METHODS[name], warm_start=cold.partition_id[:8])
    # What has converged stays as it is, label by label.
    assert labels(store, read_rows, warm) == labels(store, read_rows, cold)
    assert warm.is_new
    parameters = [
        json.loads(read_rows(store, "partitions", job=each.partition_id)[0]["parameters"]) for each in (cold, warm)
    ]
    assert parameters[0].pop("n_starts") == 4  # a warm start is one
    assert parameters[1] == {**parameters[0], "warm_start": cold.partition_id}
    assert not partition(store, **METHODS[name], warm_start=cold.partition_id).is_new


def test_a_start_made_of_scores_that_its_experts_are_not_to_be_made_of_is_refused(stored, partition):
    store = stored("bert")
    of_all, of_half = partition(store, method="function"), partition(store, method="function", half="a")
    for start, settings in ((of_all, {"method": "function", "half": "a"}), (of_half, {"method": "kmeans"})):
        with pytest.raises(AnalysisError, match=f"no start: partition {start.partition_id} is made of scores on half"):
            partition(store, **settings, warm_start=start.partition_id)


def test_a_warm_start_may_be_of_another_revision(stored, partition, read_rows, tiny_model, labels):
    from transformers import AutoModel

    store = stored("bert")
    other = partition(store, method="kmeans", random_init=5)
    report = partition(store, method="kmeans", warm_start=other.partition_id)
    assert (other.revision, report.revision) == ("random-5", "main")
    blocks = AutoModel.from_pretrained(tiny_model("bert")).encoder.layer
    start = labels(store, read_rows, other)
    for layer, found in enumerate(labels(store, read_rows, report).values()):
        rows = unit_rows(blocks[layer].intermediate.dense.weight.detach().numpy())
        experts = np.array(start["encoder", layer])
        centres = [rows[experts == expert].mean(axis=0) for expert in range(4)]
        assert found == BalancedKMeans(4, init=centres).fit(rows).labels_.tolist()


def test_a_layer_may_start_from_a_partition_of_all(stored, partition, read_rows, labels):
    store = stored("bert")
    cold = partition(store, method="kmeans")
    warm = partition(store, method="kmeans", layers=(1,), warm_start=cold.partition_id)
    assert labels(store, read_rows, warm) == {("encoder", 1): labels(store, read_rows, cold)["encoder", 1]}


@pytest.mark.parametrize(
    ("start", "settings", "message"),
    [
        ({}, {"n_experts": 5}, "no start for 5 experts of encoder layer 0 of tiny-bert main: partition .* main has 4"),
        (
            {"layers": (1,)}, {},
            "no start for encoder layer 0 of tiny-bert main: partition .* of main has the layers encoder 1",
        ),
        ({}, {"n_starts": 2}, "n_starts means nothing to a warm start, which is one"),
        ({}, {"method": "random"}, "`warm_start` means nothing to method random; it is for kmeans, "),
        ({}, {"warm_start": "x"}, "no partition 'x' in .*; available: [0-9a-f]{16} .tiny-bert, main, kmeans, 4"),
    ],
)  # fmt: skip
def test_a_start_that_does_not_fit_is_refused_in_one_line(start, settings, message, stored, partition, read_rows):
    store = stored("bert")
    cold = partition(store, **{"method": "kmeans", "n_starts": 1, **start})
    with pytest.raises(NeuronlakeError, match=message):
        partition(store, **{"method": "kmeans", "warm_start": cold.partition_id, **settings})
    assert len(read_rows(store, "partitions")) == 1


def test_a_start_of_other_neurons_is_refused():
    start = StoredPartition(
        "p", "tiny", "step1", {("encoder", 0): {"neuron": np.arange(40), "expert": np.arange(40) % 4}}
    )
    message = (
        "no start for encoder layer 0 of tiny main: partition p of step1 places 40 neurons of this layer, of 64 to be"
    )
    with pytest.raises(AnalysisError, match=message):
        start.check_start(Origin("tiny", "main", None), {("encoder", 0): np.arange(64)}, 4)


def test_a_start_of_another_model_is_refused(stored, partition):
    store = stored("bert")
    other = partition(store, "llama", method="kmeans")
    with pytest.raises(AnalysisError, match=r"partition .* is of tiny-llama, not of tiny-bert"):
        partition(store, method="kmeans", warm_start=other.partition_id)
