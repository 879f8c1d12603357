"""Partitions into experts, and the permutation test of one, as jobs commit them."""

import numpy as np
from queries.small_tables import table

from neuronlake.schema.store import Store


def add_partition(
    store: Store,
    partition_id: str,
    experts: np.ndarray,
    *,
    model: str = "tiny",
    revision: str = "main",
    method: str = "kmeans",
    half: str | None = None,
    run_id: str | None = None,
) -> None:
    """Commit one partition: the expert of each neuron, [layers, neurons], -1 where it has none."""
    layer, neuron = np.nonzero(experts >= 0)
    keys = {"partition_id": partition_id, "model": model, "revision": revision, "step": None}
    partition = {
        **keys,
        "method": method,
        "n_experts": int(experts.max()) + 1,
        "parameters": "{}",
        "run_id": run_id,
        "half": half,
    }
    rows = {**keys, "stack": "encoder", "layer": layer, "neuron": neuron, "expert": experts[layer, neuron]}
    with store.job(partition_id, kind="partition") as job:
        job.write("partitions", table("partitions", 1, partition))
        job.write("experts", table("experts", len(layer), rows))
        job.commit()


def random_experts(seed: int, n_experts: int, *, n_layers: int = 2, n_neurons: int = 200) -> np.ndarray:
    """Deal neurons to experts of equal sizes, layer by layer. [layers, neurons]."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(n_neurons) * n_experts // n_neurons for _ in range(n_layers)])


def add_alignment(store: Store) -> None:
    """Commit the permutation test of one expert and function, on all instances and on either half."""
    aligned = {
        "alignment_id": "4444444444444444",
        "run_id": "bbbbbbbbbbbbbbbb",
        "model": "tiny",
        "revision": "step1000",
        "step": 1000,
        "partition_id": "1111111111111111",
        "null_model": "free",
        "half": ["all", "a", "b"],
        "ranking": "lift",
        "stack": "encoder",
        "family": "knowledge",
        "function": "capital",
        "n_neurons": 5,
        "n_top": [2, 2, 1],
        "n_expected": 0.05,
        "p_value": [0.001, 0.001, 0.05],
        "p_nominal": [0.001, 0.001, 0.05],
        "n_permutations": 999,
    }
    with store.job("4444444444444444", kind="alignment") as job:
        job.write("alignments", table("alignments", 3, aligned))
        job.commit()
