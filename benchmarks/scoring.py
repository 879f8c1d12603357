"""Exact scores against the usual scikit-learn loop, the same work on both sides, one thread.

The work: for each neuron and function, average precision of the activation for the label and for its
complement, over all instances and over each half, and the AUROC. 20,000 instances. The loop is timed on some
cells and multiplied up, since it would run for hours.
"""

import time

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from table import command_line, exponents, print_table

from neuronlake.ingest.corpora.labels import LabelIndex
from neuronlake.ingest.scores.scoring import score


def make_labels(generator, *, n_instances, n_functions, prevalence):
    """Draw labels of functions whose negatives are the rest."""
    dense = generator.random((n_instances, n_functions)) < prevalence
    instance, function = np.nonzero(dense)
    index = LabelIndex.build(
        [("family", f"function{number:03}") for number in range(n_functions)],
        is_rest=np.ones(n_functions, dtype=bool),
        half=(generator.random(n_instances) < 0.5).astype(np.uint8),
        instance=instance,
        function=function.astype(np.int32),
        is_positive=np.ones(len(instance), dtype=np.uint8),
    )
    return index, dense


def time_ours(activations, labels, *, repeats=3):
    """Return CPU seconds a neuron, the best of some repeats."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        score(activations, labels)
        best = min(best, time.process_time() - start)
    return best / len(activations)


def time_loop(activations, dense, half, *, n_cells):
    """Return CPU seconds a cell of the loop, and its scores."""
    found = []
    start = time.process_time()
    for function in range(n_cells):
        label, values = dense[:, function], activations[0]
        row = []
        for where in (slice(None), half == 0, half == 1):
            row += [average_precision_score(y, values[where]) for y in (label[where], ~label[where])]
        row.append(roc_auc_score(label, values))
        found.append(row)
    return (time.process_time() - start) / n_cells, np.array(found)


def growth(activations, counts):
    """Return milliseconds a neuron for each number of functions."""
    generator, found = np.random.default_rng(1), []
    n_instances = activations.shape[1]
    for n_functions in counts:
        function = np.append(np.arange(n_functions), generator.integers(0, n_functions, n_instances - n_functions))
        labels = LabelIndex.build(
            [("family", f"function{number:04}") for number in range(n_functions)],
            is_rest=np.ones(n_functions, dtype=bool),
            half=(generator.random(n_instances) < 0.5).astype(np.uint8),
            instance=np.arange(n_instances),
            function=function.astype(np.int32),
            is_positive=np.ones(n_instances, dtype=np.uint8),
        )
        score(activations, labels)  # compiles, and makes the tables of p-values
        found.append(1e3 * time_ours(activations, labels))
    return found


def growth_with_instances(generator, sizes, n_neurons):
    """Return milliseconds a neuron for each number of instances: 26 functions of 4%, half of the neurons ReLU."""
    found = []
    for n_instances in sizes:
        labels, _ = make_labels(generator, n_instances=n_instances, n_functions=26, prevalence=0.04)
        block = relu_half(generator, n_neurons, n_instances)
        score(block, labels)  # makes the tables of p-values
        found.append(1e3 * time_ours(block, labels))
    return found


def relu_half(generator, n_neurons, n_instances):
    """Draw activations of which half are continuous, half ReLU of 5 to 98% zeros."""
    block, half = generator.standard_normal((n_neurons, n_instances)).astype(np.float32), n_neurons // 2
    block[half:] = np.maximum(block[half:] - generator.uniform(-1.6, 2, (n_neurons - half, 1)), 0)
    return block


def print_growth(title, of, sizes, times):
    """Print what a neuron takes by size, and the exponents."""
    rows = [
        [f"{size:,}", f"{each:.2f}", slope]
        for size, each, slope in zip(sizes, times, exponents(sizes, times), strict=True)
    ]
    print_table(title, [of, "ms a neuron", "exponent"], rows)


def main():
    """Print the tables."""
    parser = command_line(__doc__)
    parser.add_argument("--neurons", type=int, default=96)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--growth", action="store_true", help="the growth alone, of a block of a job")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    continuous = generator.standard_normal((arguments.neurons, 20_000)).astype(np.float32)
    relu = np.where(generator.random(continuous.shape) < 0.67, 0, np.abs(continuous)).astype(np.float32)
    counts, sizes = (26, 100, 300, 1000), (2_000, 20_000, 200_000)
    print_growth("Growth with functions", "functions", counts, growth(relu_half(generator, 512, 20_000), counts))
    print_growth("Growth with instances", "instances", sizes, growth_with_instances(generator, sizes, 128))
    if arguments.growth:
        return
    rows = []
    for n_functions, prevalence in ((26, 0.04), (26, 0.3), (300, 0.04)):
        labels, dense = make_labels(generator, n_instances=20_000, n_functions=n_functions, prevalence=prevalence)
        score(relu[:2], labels)  # compiles
        for name, activations in (("continuous", continuous), ("67% zeros", relu)):
            ours = time_ours(activations, labels)
            cell, expected = time_loop(activations, dense, labels.half, n_cells=arguments.cells)
            found = score(activations[:1], labels).scores[0, : arguments.cells]
            error = np.abs(found[:, [0, 1, 5, 7, 6, 8, 2]] - expected).max()
            rows.append(
                [
                    n_functions,
                    f"{prevalence:.0%}",
                    name,
                    f"{1e3 * ours:.2f}",
                    f"{1e3 * cell * n_functions:,.0f}",
                    f"{cell * n_functions / ours:,.0f}×",
                    f"{error:.0e}",
                ]
            )
    header = ["functions", "prevalence", "activations", "ours, ms a neuron", "loop, ms a neuron", "ratio", "max error"]
    print_table("Scoring against a scikit-learn loop", header, rows)


if __name__ == "__main__":
    main()
