"""Time and objective of each way to partition the neurons of one layer, on what is planted.

The work: vectors of neurons around planted centres, of Gaussian noise three times as strong as the centres differ
(kmeans, as MoEfication does it on weights), and a graph of 32 partners a neuron of which 6 in 10 are of its own planted
part (coactivation). One start each. The objective stands beside that of the planted and of a random partition, and ARI
is the agreement with what was planted. CPU seconds of the process.
"""

import time

import numpy as np
from scipy import sparse
from sklearn.metrics import adjusted_rand_score
from table import command_line, print_table

from neuronlake.analysis.partitions.chance import RandomPartition
from neuronlake.analysis.partitions.clustering import BalancedKMeans, GraphPartition, cut, inertia, unit_rows

SMALL = ((3072, 768, 16), (3072, 768, 96))
LARGE = ((14336, 4096, 64),)
N_PARTNERS, SHARE_WITHIN = 32, 0.6


def planted_vectors(n_neurons, n_features, n_experts, generator):
    """Return unit vectors around centres [neurons, features] and the centre of each."""
    labels = generator.permutation(np.arange(n_neurons) % n_experts)
    centres = generator.normal(size=(n_experts, n_features)).astype(np.float32)
    noise = generator.normal(size=(n_neurons, n_features)).astype(np.float32)
    return unit_rows(centres[labels] + 3 * noise), labels


def planted_graph(n_neurons, n_experts, generator):
    """Return a graph of partners and the part of each neuron."""
    labels = generator.permutation(np.arange(n_neurons) % n_experts)
    members = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[members], np.arange(n_experts))
    sizes = np.bincount(labels)
    neuron = np.repeat(np.arange(n_neurons), N_PARTNERS)
    within = members[first[labels[neuron]] + (generator.random(len(neuron)) * sizes[labels[neuron]]).astype(int)]
    anyone = generator.integers(0, n_neurons, len(neuron))
    partner = np.where(generator.random(len(neuron)) < SHARE_WITHIN, within, anyone)
    one_way = sparse.coo_array((generator.random(len(neuron)), (neuron, partner)), shape=(n_neurons, n_neurons)).tocsr()
    one_way.setdiag(0)
    return one_way.maximum(one_way.T), labels


def measured(estimator, data):
    """Return a fitted estimator and its CPU seconds."""
    start = time.process_time()
    fitted = estimator.fit(data)
    return fitted, time.process_time() - start


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--large", action="store_true", help="also 14,336 x 4,096 into 64, which takes minutes")
    arguments = parser.parse_args()
    rows = []
    for n_neurons, n_features, n_experts in SMALL + LARGE * arguments.large:
        generator = np.random.default_rng(0)
        vectors, in_vectors = planted_vectors(n_neurons, n_features, n_experts, generator)
        graph, in_graph = planted_graph(n_neurons, n_experts, generator)
        by_random, seconds = measured(RandomPartition(n_experts), vectors)
        works = {
            "kmeans": (BalancedKMeans(n_experts, n_init=1), vectors, in_vectors, inertia, "inertia_"),
            "coactivation": (GraphPartition(n_experts, n_init=1), graph, in_graph, cut, "cut_"),
        }
        size = f"{n_neurons:,} × {n_features:,} into {n_experts}"
        for name, (estimator, data, planted, objective, attribute) in works.items():
            fitted, fit_seconds = measured(estimator, data)
            rows.append(
                [
                    size,
                    name,
                    f"{fit_seconds:.2f}",
                    f"{objective.__name__} {getattr(fitted, attribute):,.4g}",
                    f"{objective(data, planted):,.4g}",
                    f"{objective(data, by_random.labels_):,.4g}",
                    f"{adjusted_rand_score(planted, fitted.labels_):.3f}",
                ]
            )
        rows.append([size, "random", f"{seconds:.4f}", "", "", "", ""])
    header = ["neurons × features into experts", "method", "CPU s", "objective", "of planted", "of random", "ARI"]
    print_table("Partitions of one layer, one start", header, rows)


if __name__ == "__main__":
    main()
