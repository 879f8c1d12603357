"""What p-values cost beside scoring, and how near they are to direct permutation.

Cost: CPU seconds, one thread, for 12 layers of 3,072 neurons, 26 functions of .3 to 30% prevalence, 20,000 instances.
Tables are made once in a job; scoring and reading the tables are measured on one block of neurons and multiplied up.
Calibration: p of a value, over the probability by direct draws that the label or its complement is as improbable.
"""

import time

import numpy as np
from numba import njit
from table import command_line, print_table

from neuronlake.ingest.corpora.labels import LabelIndex
from neuronlake.ingest.scores import nulls, scoring

N_NEURONS = 12 * 3072
LEVELS = (0.1, 0.01, 1e-3, 1e-4, 1e-5)


def make_labels(generator, n_instances):
    """Draw labels of functions whose negatives are the rest."""
    prevalences = np.geomspace(0.003, 0.3, 26)
    instance, function = np.nonzero(generator.random((n_instances, 26)) < prevalences)
    return LabelIndex.build(
        [("family", f"function{number:03}") for number in range(26)],
        is_rest=np.ones(26, dtype=bool),
        half=(generator.random(n_instances) < 0.5).astype(np.uint8),
        instance=instance,
        function=function.astype(np.int32),
        is_positive=np.ones(len(instance), dtype=np.uint8),
    )


def cost(name, activations, labels):
    """Return a row: scoring, reading tables, making them, and their share."""
    spent = [0.0]
    original = scoring.p_values

    def timed(*arguments):
        start = time.process_time()
        found = original(*arguments)
        spent[0] += time.process_time() - start
        return found

    nulls._table.cache_clear()
    scoring.p_values = timed
    times = []
    for _ in range(3):
        spent[0] = 0.0
        start = time.process_time()
        scoring.score(activations, labels)
        times.append((time.process_time() - start - spent[0], spent[0]))
    scoring.p_values = original
    scale = N_NEURONS / len(activations)
    score = scale * min(each for each, _ in times)
    read = min(each for _, each in times[1:])
    tables = times[0][1] - read
    n_tables = nulls._table.cache_info().currsize
    share = (scale * read + tables) / score
    return [name, f"{score:.1f}", f"{scale * read:.2f}", f"{tables:.2f}", n_tables, f"{share:.1%}"]


@njit(error_model="numpy")
def draw_directly(n_positive, n, n_above, n_draws, seed):
    """Return the excess of label and complement of permuted labels, one instance at a time: [draws, 2]."""
    np.random.seed(seed)
    found = np.empty((n_draws, 2))
    for draw in range(n_draws):
        left = n_positive
        label = complement = 0.0
        true = 0
        for rank in range(1, n_above + 1):
            if np.random.random() * (n - rank + 1) < left:
                left -= 1
                true += 1
                label += true / rank
            else:
                complement += (rank - true) / rank
        share = n_positive / n
        found[draw, 0] = label - true * share
        found[draw, 1] = complement - (n_above - true) * (1.0 - share)
    return found


def calibration(n_positive, n, n_above, n_draws):
    """Return rows, of the label and of its complement: p over the probability of a value."""
    direct = draw_directly(n_positive, n, n_above, n_draws, 1)
    rows = []
    for side, name in enumerate(("label", "complement")):
        rising = np.sort(direct[:, side])
        row = [n_positive, f"{n:,}", f"{n_above:,}", name]
        for level in LEVELS:
            value = rising[n_draws - round(level * n_draws)]
            tail = (n_draws - np.searchsorted(rising, value - 1e-9)) / n_draws
            if level * n_draws < 30 or tail > 1.5 * level:
                row.append("")
                continue
            other = np.sort(direct[:, 1 - side])
            other_tail = (n_draws - np.searchsorted(other, other - 1e-9)) / n_draws
            either = tail + max(other_tail[other_tail <= tail], default=0.0)
            excess = np.full((1, 2), -np.inf)
            excess[0, side] = value
            p = nulls.p_values(excess, np.array([n_above]), n_positive, n - n_positive)[0]
            row.append(f"{p / either:.2f}")
        rows.append(row)
    return rows


def main():
    """Print the tables."""
    parser = command_line(__doc__)
    parser.add_argument("--neurons", type=int, default=512)
    parser.add_argument("--draws", type=float, default=1.0, help="times the draws that calibration is measured with")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    labels = make_labels(generator, 20_000)
    continuous = generator.standard_normal((arguments.neurons, 20_000)).astype(np.float32)
    thresholds = generator.uniform(-1.6, 2.0, (arguments.neurons, 1)).astype(np.float32)
    relu = np.maximum(continuous - thresholds, 0)
    routed = np.where(generator.random(continuous.shape) < 0.87, 0, continuous).astype(np.float32)
    scoring.score(relu[:2], labels)  # compiles
    kinds = (("no zeros", continuous), ("ReLU, 5 to 98% zeros", relu), ("routed, 87% zeros", routed))
    header = [
        "activations",
        "scoring, CPU s",
        "reading tables, CPU s",
        "making tables, CPU s",
        "tables",
        "p-values / scoring",
    ]
    print_table("Cost of p-values", header, [cost(name, each, labels) for name, each in kinds])
    rows = []
    for n_positive, n, n_draws in ((5, 2000, 4e6), (50, 2000, 4e6), (1000, 2000, 2e6), (100, 20_000, 1e6)):
        for share in (1.0, 0.4, 0.05):
            rows += calibration(n_positive, n, round(share * n), int(n_draws * arguments.draws * min(1, 0.25 / share)))
    header = ["positives", "instances", "above rest", "of", *(f"{level:.0e}" for level in LEVELS)]
    print_table("p-values over the probability by direct permutation", header, rows)


if __name__ == "__main__":
    main()
