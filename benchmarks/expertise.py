"""Expert units as ml-selfcond finds them: average precision of every neuron for every concept against the rest.

    python expertise.py

The peer is the computation of ml-selfcond's expertise step (Suau et al. 2022: for a concept, scikit-learn's
average_precision_score of each unit's max-pooled responses, unit by unit) in lines of our own, one process; its values
for forcing, a mean and two percentiles, are left out. It is timed on some neurons of a concept and multiplied up. Ours
is `score`: the same values, and with them the complement's, both halves, AUROC, p-values and top instances. Both get
the pooled responses in memory. CPU seconds of one thread, best of the repeats. Target: 500 × at 2,000 and 20,000.
"""

import time

import numpy as np
from scoring import make_labels, time_ours
from sklearn.metrics import average_precision_score
from table import command_line, exponents, print_table

from neuronlake.ingest.scores.scoring import score

TARGET = 500
PREVALENCE = 0.04


def time_peer(responses, is_positive):
    """Return CPU seconds a neuron and concept of the peer, the best of three, and its average precisions."""
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        found = [average_precision_score(is_positive, response) for response in responses]
        best = min(best, time.process_time() - start)
    return best / len(responses), np.array(found)


def main():
    """Print the tables."""
    parser = command_line(__doc__)
    parser.add_argument("--neurons", type=int, default=256, help="neurons that ours is timed on")
    parser.add_argument("--cells", type=int, default=16, help="neurons that the peer is timed on, for one concept")
    arguments = parser.parse_args()
    sizes, counts = (2_000, 20_000), (1, 26, 100, 300)
    rows, times = [], {}
    for n_instances in sizes:
        generator = np.random.default_rng(0)
        continuous = generator.standard_normal((arguments.neurons, n_instances)).astype(np.float32)
        zeros = np.where(generator.random(continuous.shape) < 0.67, 0, np.abs(continuous)).astype(np.float32)
        for n_concepts in counts:
            labels, dense = make_labels(
                generator, n_instances=n_instances, n_functions=n_concepts, prevalence=PREVALENCE
            )
            for name, responses in (("continuous", continuous), ("67% zeros", zeros)):
                found = score(responses, labels)  # compiles, and makes the tables of p-values
                ours = time_ours(responses, labels)
                cell, expected = time_peer(responses[: arguments.cells], dense[:, 0])
                error = np.abs(found.scores[: arguments.cells, 0, 0] - expected).max()
                if error > 1e-6:
                    raise SystemExit(f"the peer's average precision differs by {error}")
                ratio = cell * n_concepts / ours
                times[name, n_concepts, n_instances] = ours, cell * n_concepts
                shown = f"{1e3 * ours:.3f}", f"{1e3 * cell * n_concepts:,.1f}", f"{ratio:,.0f}×"
                verdict = "lost" if ratio < 1 else f"≥ {TARGET}×: {'met' if ratio >= TARGET else 'missed'}"
                rows.append([f"{n_instances:,}", n_concepts, name, *shown, verdict])
    header = ["instances", "concepts", "responses", "ours, ms a neuron", "peer, ms a neuron", "ratio", "target"]
    print_table("Against ml-selfcond's computation", header, rows)
    rows = []
    for (name, n_concepts, n_instances), pair in times.items():
        if n_instances == sizes[1]:
            smaller = times[name, n_concepts, sizes[0]]
            slopes = [exponents(sizes, each)[1] for each in zip(smaller, pair, strict=True)]
            rows.append([n_concepts, name, *slopes])
    header = ["concepts", "responses", "ours", "peer"]
    print_table("Exponents of growth from 2,000 to 20,000 instances", header, rows)


if __name__ == "__main__":
    main()
