"""Co-activation counts by bits against a float32 matrix product, which is exact below 2^24 instances; one thread.

Both sides start from pooled activations, find on how many instances each pair of neurons is active together, and keep
the 32 closest partners of each neuron by Jaccard index. 3,072 neurons, 20,000 instances.
"""

import time

import numpy as np
from table import command_line, print_table
from threadpoolctl import threadpool_limits

from neuronlake.ingest.scores.coactivation import active_bits, closest_partners

N_PARTNERS = 32


def cpu_seconds(function, repeats):
    """Return CPU seconds of a call, the best of some, and its result."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        best = min(best, time.process_time() - start)
    return best, result


def multiply(activations):
    """Return how many instances each pair of neurons shares, [neurons, neurons]."""
    active = (activations > 0).astype(np.float32)
    return active @ active.T


def select(n_both):
    """Return each neuron's closest partners, from the counts of all pairs, [neurons, partners]."""
    n_both = n_both.astype(np.float64)  # in float32 distinct fractions may round to one
    n_active = np.diag(n_both).copy()
    closeness = n_both / np.maximum(n_active[:, None] + n_active - n_both, 1)
    np.fill_diagonal(closeness, -1)
    return np.argsort(-closeness, axis=1, kind="stable")[:, :N_PARTNERS]


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--neurons", type=int, default=3072)
    parser.add_argument("--instances", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    closest_partners(active_bits(np.ones((8, 64), dtype=np.float32)), N_PARTNERS)  # compiles
    rows = []
    for share in (0.5, 0.05):
        activations = generator.random((arguments.neurons, arguments.instances), dtype=np.float32) - np.float32(
            1 - share
        )
        packing, bits = cpu_seconds(lambda: active_bits(activations), arguments.repeats)  # noqa: B023
        pairing, found = cpu_seconds(lambda: closest_partners(bits, N_PARTNERS), arguments.repeats)  # noqa: B023
        with threadpool_limits(1):
            product, n_both = cpu_seconds(lambda: multiply(activations), arguments.repeats)  # noqa: B023
            sorting, partners = cpu_seconds(lambda: select(n_both), arguments.repeats)  # noqa: B023
        same_counts = np.array_equal(found.n_both, np.take_along_axis(n_both, found.partner, 1))
        if not same_counts or not np.array_equal(found.partner, partners):
            raise SystemExit("the partners differ")
        ours, theirs = packing + pairing, product + sorting
        rows.append(
            [
                f"{share:.0%}",
                f"{packing:.2f}",
                f"{pairing:.2f}",
                f"{product:.2f}",
                f"{sorting:.2f}",
                f"{theirs / ours:.1f}×",
                f"{bits.nbytes / 1e6:.0f}",
                f"{(activations.nbytes + n_both.nbytes) / 1e6:.0f}",
            ]
        )
    header = ["active", "bits, CPU s", "partners", "product", "sort", "ratio", "bits, MB", "matrices, MB"]
    print_table(f"Co-activation of {arguments.neurons:,} neurons over {arguments.instances:,} instances", header, rows)


if __name__ == "__main__":
    main()
