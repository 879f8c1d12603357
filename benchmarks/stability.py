"""What stability reads where the truth is known: simulations behind docs/emergence.md.

Firing rates: two checkpoints whose activations and labels have nothing to do with each other, scored without and with
the sign of the direction. Errors: how often the truth lies within two standard errors of a curve, of the jackknife over
functions alone and with the noise that functions share; a share of a function's noise is that of all functions, and
checkpoints have as much of it in common as they share instances.
"""

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score
from table import command_line, print_table

N_NEURONS, N_EXPERTS, N_HALF, N_RATE_FUNCTIONS = 256, 16, 600, 6


def correlation(a, b):
    """Return Spearman's correlation along the last axis."""
    a, b = (ranks - ranks.mean(-1, keepdims=True) for ranks in (rankdata(a, axis=-1), rankdata(b, axis=-1)))
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def lifts(activations, labels):
    """Return the lift of each neuron for a function, without and with the sign of its direction. [2, neurons]."""
    prevalence = labels.mean()
    positive, complement = (
        np.array([average_precision_score(each, column) for column in activations.T]) - each.mean()
        for each in (labels, 1 - labels)
    )
    lift = np.maximum(positive, complement) / max(prevalence, 1 - prevalence)
    return np.stack([lift, np.where(positive >= complement, lift, -lift)])


def firing_rates(seed, prevalence):
    """Return split-half and corrected correlations by level, unsigned and signed. {level: [2 kinds, 2 numbers]}."""
    generator = np.random.default_rng(seed)
    rates = np.linspace(0.02, 0.9, N_NEURONS)
    experts = np.arange(N_NEURONS) * N_EXPERTS // N_NEURONS
    matched = np.concatenate([generator.permutation(part) for part in np.array_split(experts, 5)])
    groups = {
        "neuron": None,
        "expert": experts,
        "matched group": matched,
        "random group": generator.permutation(experts),
    }
    scores = np.empty((2, 2, 2, N_RATE_FUNCTIONS, N_NEURONS))  # [checkpoints, halves, kinds, functions, neurons]
    for checkpoint in range(2):
        for half in range(2):
            fires = generator.random((N_HALF, N_NEURONS)) < rates
            activations = np.where(fires, np.abs(generator.normal(size=fires.shape)), 0)
            for function in range(N_RATE_FUNCTIONS):
                scores[checkpoint, half, :, function] = lifts(
                    activations, generator.permutation(N_HALF) < N_HALF * prevalence
                )
    found = {}
    for level, group in groups.items():
        units = scores if group is None else scores @ (np.eye(N_EXPERTS)[group] / np.bincount(group))
        splits = correlation(units[:, 0], units[:, 1]).mean(-1)  # [checkpoints, kinds]
        crossed = (correlation(units[0, 0], units[1, 1]) + correlation(units[0, 1], units[1, 0])).mean(-1) / 2
        least = max(0.18, 2 / np.sqrt(units.shape[-1] - 1))
        corrected = np.where(splits.min(0) >= least, crossed / np.sqrt(np.abs(splits.prod(0))), np.nan)
        found[level] = np.stack([splits.mean(0), corrected], axis=1)
    return found


def curve(generator, n_units, n_functions, n_steps, shared, in_common):
    """Draw a series; return estimate and both errors, uncorrected and corrected. [2, 3, checkpoints but the last]."""
    kept = np.clip(np.linspace(0.3, 0.9, n_steps)[:, None] + generator.normal(0, 0.1, n_functions), -0.99, 0.99)
    last = generator.normal(size=(n_functions, n_units))
    signal = kept[..., None] * last + np.sqrt(1 - kept[..., None] ** 2) * generator.normal(size=(*kept.shape, n_units))
    signal = np.concatenate([signal, last[None]])

    def noise(n_checkpoints):
        of_all = generator.normal(size=(2, n_checkpoints, 1, n_units))
        of_each = generator.normal(size=(2, n_checkpoints, n_functions, n_units))
        return np.sqrt(shared) * of_all + np.sqrt(1 - shared) * of_each

    halves = signal + np.sqrt(in_common) * noise(1) + np.sqrt(1 - in_common) * noise(n_steps + 1)
    whole, (a, b) = halves.mean(0), halves
    plain, of_a, of_b = (correlation(each[:-1], each[-1]) for each in (whole, a, b))
    split, other = correlation(a, b)[:-1], correlation(a, b)[-1:]
    crossed = (correlation(a[:-1], b[-1]) + correlation(b[:-1], a[-1])) / 2

    def jackknife(function, *parts):
        left_out = function(*((part.sum(1, keepdims=True) - part) / (part.shape[1] - 1) for part in parts))
        return (left_out.shape[1] - 1) * left_out.var(1)

    def quotient(crossed, split, other):
        return crossed / np.sqrt(split * other)

    difference = of_a - of_b
    lacking = max(0, np.mean(difference.mean(1) ** 2 - jackknife(lambda each: each, difference)) / 4)
    split_means, other_mean = split.mean(1), other.mean()
    variances = jackknife(lambda each: each, plain), jackknife(quotient, crossed, split, other)
    added = lacking, lacking / (split_means * other_mean)
    estimates = plain.mean(1), quotient(crossed.mean(1), split_means, other_mean)
    return np.array(
        [
            (estimate, np.sqrt(variance), np.sqrt(variance + more))
            for estimate, variance, more in zip(estimates, variances, added, strict=True)
        ]
    )


def coverage(n_units, shared, in_common, arguments):
    """Return a row: spread of estimates, mean errors and coverage of both, uncorrected and corrected."""
    generator = np.random.default_rng(0)
    draws = np.array([curve(generator, n_units, 8, 8, shared, in_common) for _ in range(arguments.draws)])
    row = [n_units, f"{shared:.1f}", f"{in_common:.1f}"]
    for estimate, *errors in np.moveaxis(draws, 0, 2):  # [kinds, 3, draws, checkpoints]
        off = np.abs(estimate - estimate.mean(0))
        row += [f"{estimate.std(0).mean():.3f}", *(f"{np.sqrt((error**2).mean()):.3f}" for error in errors)]
        row += [f"{(off <= 2 * error).mean():.0%}" for error in errors]
    return row


def main():
    """Simulate both and print."""
    parser = command_line(__doc__)
    parser.add_argument("--draws", type=int, default=300)
    arguments = parser.parse_args()
    rows = []
    for prevalence in (0.5, 0.1, 0.05):
        draws = [firing_rates(seed, prevalence) for seed in range(3)]
        for kind, name in enumerate(("unsigned", "signed")):
            for level in draws[0]:
                numbers = np.array([draw[level][kind] for draw in draws])
                spans = (" to ".join(f"{each:.2f}" for each in (column.min(), column.max())) for column in numbers.T)
                rows.append([prevalence, name, level, *("NULL" if "nan" in span else span for span in spans)])
    print_table(
        "No signal at all: neurons that fire on .02 to .9 of instances",
        ("share of positives", "lift", "level", "split-half correlation", "corrected to the other checkpoint"),
        rows,
    )
    kinds = [f"{kind}{what}" for kind in ("", "corrected: ") for what in (
        "spread", "jackknife", "with shared", "coverage of jackknife", "coverage with shared"
    )]  # fmt: skip
    print_table(
        "Errors of curves of 8 functions",
        ("units", "noise of all functions", "of both checkpoints", *kinds),
        [
            coverage(n_units, shared, in_common, arguments)
            for n_units in (64, 1024)
            for shared in (0.0, 0.5, 0.9)
            for in_common in (0.0, 0.9)
        ],
        f"{arguments.draws} series of 9 checkpoints.",
    )


if __name__ == "__main__":
    main()
