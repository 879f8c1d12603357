"""False-positive rates of the tests of functional experts when there are none.

    python calibration.py

Top lists overlap as in Zhang et al. 2023: 100 functions with 5.7% overlap between two lists, 39 with 9.5%, the top
1% of 3,072 neurons each. Experts are 16 random partitions of equal sizes, so that every finding is false. Each test
is asked at .05, .01 and .001: the hypergeometric of one function's list, and of a whole family the paper's binomial
of the pooled lists, the hypergeometric of the distinct neurons, and the permutation of experts' labels.
"""

import numpy as np
from scipy import stats
from table import command_line, print_table

from neuronlake.analysis.alignment.layer_tests import layer_test

N_NEURONS, N_EXPERTS, N_TOP = 3072, 16, 30
LEVELS = (0.05, 0.01, 0.001)


def overlapping_lists(n_lists, overlap, generator):
    """Return a membership matrix [neurons, lists] whose lists overlap as asked, by neurons that are often on top."""
    propensity = generator.normal(size=(N_NEURONS, 1))
    noise = generator.gumbel(size=(N_NEURONS, n_lists))
    low, high = 0.0, 5.0
    for _ in range(40):
        scale = (low + high) / 2
        membership = np.zeros((N_NEURONS, n_lists), dtype=np.int32)
        best = np.argpartition(-(scale * propensity + noise), N_TOP, axis=0)[:N_TOP]
        np.put_along_axis(membership, best, 1, axis=0)
        shared = membership.T @ membership
        found = (shared.sum() - np.trace(shared)) / (n_lists * (n_lists - 1)) / N_TOP
        low, high = (scale, high) if found < overlap else (low, scale)
    return membership, found


def p_values(membership, labels, seed, n_permutations):
    """Return each test's p-values of all experts."""
    n_lists = membership.shape[1]
    sizes = np.bincount(labels)
    distinct = (membership.sum(axis=1) > 0).astype(np.int32)
    onehot = np.eye(N_EXPERTS, dtype=np.int32)[labels]
    counts = onehot.T @ membership  # [experts, lists]
    entries, distinct_found = counts.sum(axis=1), onehot.T @ distinct
    pooled = membership.sum(axis=1, keepdims=True)
    return {
        "function: hypergeometric": stats.hypergeom.sf(counts - 1, N_NEURONS, sizes[:, None], N_TOP).reshape(-1),
        "family: binomial of pooled lists (the paper's)": stats.binom.sf(
            entries - 1, n_lists * N_TOP, sizes / N_NEURONS
        ),
        "family: hypergeometric of distinct neurons": stats.hypergeom.sf(
            distinct_found - 1, N_NEURONS, sizes, distinct.sum()
        ),
        "family: permutation of labels": layer_test(
            labels, pooled, is_pooled=np.array([True]), n_permutations=n_permutations, seed=seed
        ).p_value.reshape(-1),
    }


def main(n_partitions=1000, n_permutations=5000):
    """Print the table."""
    command_line(__doc__).parse_args()
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(N_EXPERTS, dtype=np.int32), N_NEURONS // N_EXPERTS)
    rows = []
    for n_lists, overlap in ((100, 0.057), (39, 0.095)):
        found = {}
        for trial in range(n_partitions):
            if trial % 20 == 0:
                membership, reached = overlapping_lists(n_lists, overlap, generator)
            tests = p_values(membership, generator.permutation(labels), trial, n_permutations)
            for name, values in tests.items():
                found.setdefault(name, []).append(values)
        for name, values in found.items():
            p = np.concatenate(values)
            rates = [f"{(p <= level).mean():.2%}" for level in LEVELS]
            rows.append([f"{n_lists} lists, {reached:.1%} overlap", name, f"{len(p):,}", *rates])
    header = ["lists", "test", "tests", *(f"p <= {level}" for level in LEVELS)]
    print_table("False positives of the tests of functional experts", header, rows)


if __name__ == "__main__":
    main()
