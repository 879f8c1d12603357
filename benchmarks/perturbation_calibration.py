"""False-positive rates of the tests of perturbation studies when own sets are like any, and coverage of intervals.

    python perturbation_calibration.py

Every source's own set is drawn as the control sets are, so that each finding is false. An instance is right or wrong:
a perturbation turns it wrong where a normal latent value exceeds a threshold, and right where it is far below. The
latent value has parts common to a text, or to all perturbations, or to neither; the threshold depends on the function,
as some are easily damaged, and varies from set to set. So what is true of a set, and of all sets, is known.

Each test is asked at .05 and .01: p_texts alone, p_sets alone, and their larger, which perturbation_effects reports.
Intervals should hold what is true 95% of the time: of none the effect of the very set on all texts, of a control its
difference from the mean of all sets.
"""

import numpy as np
import polars as pl
from scipy import stats
from table import command_line, print_table

from neuronlake.analysis.effects.contrast import CellEffect, contrasts
from neuronlake.analysis.effects.resampling import Resampling
from neuronlake.analysis.effects.rows import contrast_rows

LEVELS = (0.05, 0.01)
N_INSTANCES_OF_TEXT = 3
PREVALENCE = 0.2
REPAIR = 2.0  # below minus this an instance is turned right


class SimulatedStudies:
    """Studies of which nothing is true: effects of sets of neurons, all drawn alike."""

    def __init__(self, n_texts, n_functions, spread, generator):
        self.text = np.repeat(np.arange(n_texts), N_INSTANCES_OF_TEXT)
        self.spread = spread
        self.generator = generator
        self.targets = [("family", f"function {index}") for index in range(n_functions)]
        self.threshold = np.linspace(1.0, 2.0, n_functions)
        self.shape = (n_functions, len(self.text))

    def start(self):
        """Draw the texts of a study, and what is common to all its perturbations."""
        self.strata = (self.generator.random(self.shape) < PREVALENCE).astype(np.int8)
        self.common = np.sqrt(0.3) * self._of_texts() + np.sqrt(0.3) * self.generator.normal(size=self.shape)

    def damage(self):
        """Draw a set of neurons; return its damage on each instance, and the true mean of that over all texts."""
        own = np.sqrt(0.1) * self._of_texts() + np.sqrt(0.3) * self.generator.normal(size=self.shape)
        latent = self.common + own
        threshold = self.threshold + self.spread * self.generator.normal(size=len(self.threshold))
        damage = (latent > threshold[:, None]).astype(np.float32) - (latent < -REPAIR)
        return damage, stats.norm.sf(threshold) - stats.norm.cdf(-REPAIR)

    def mean(self):
        """Return the true mean damage of all sets that could be drawn. [functions]."""
        return stats.norm.sf(self.threshold / np.hypot(1, self.spread)) - stats.norm.cdf(-REPAIR)

    def _of_texts(self):
        n_texts = len(self.text) // N_INSTANCES_OF_TEXT
        return self.generator.normal(size=(self.shape[0], n_texts))[:, self.text]


def study(simulated, n_sets, seed):
    """Return the contrasts of a study's own sets, one a function, and what is true of them."""
    simulated.start()
    resampling = Resampling(simulated.strata, simulated.text, n_bootstrap=1000, n_permutations=999, seed=seed)
    cells, truths = [], []
    for family, function in simulated.targets:
        damage, truth = simulated.damage()
        cells.append(
            CellEffect(family, function, "functional", 0.1, 0, np.array([len(cells)]), resampling.reduce(damage))
        )
        truths.append(truth)
    cells += [
        CellEffect("*", "*", "random", 0.1, drawn, np.array([1000 + drawn]), resampling.reduce(simulated.damage()[0]))
        for drawn in range(n_sets)
    ]
    rows = contrast_rows(contrasts(resampling, cells, simulated.targets)).filter(selection="functional")
    functions = [function for _, function in simulated.targets]
    truth, mean = np.stack(truths), simulated.mean()
    known = pl.DataFrame(
        {
            "source_function": np.repeat(functions, len(functions)),
            "target_function": np.tile(functions, len(functions)),
            "own": truth.reshape(-1),
            "of_all": np.tile(mean, len(functions)),
        }
    )
    return rows.join(known, on=["source_function", "target_function"]).with_columns(
        truth=pl.col("own") - pl.when(pl.col("control") == "none").then(0.0).otherwise(pl.col("of_all"))
    )


def summary(rows, prefix=""):
    """Return false-positive rates by test and level, and the coverage of the interval."""
    low, high = (rows[f"{prefix or 'difference_'}{end}"] for end in ("low", "high"))
    tests = {"p_texts": rows[f"{prefix}p_texts"], "p_sets": rows[f"{prefix}p_sets"]}
    tests["p_value"] = np.fmax(tests["p_texts"].to_numpy(), tests["p_sets"].to_numpy())
    rates = [f"{(np.asarray(p) <= level).mean():.1%}" for p in tests.values() for level in LEVELS]
    if rows["control"][0] == "none":  # all sets do damage: there is nothing false to find
        rates = ["-"] * len(rates)
    return [f"{rows.height:,}", *rates, f"{((low <= rows['truth']) & (rows['truth'] <= high)).mean():.1%}"]


def main(n_studies=200, n_texts=300):
    """Print the table."""
    command_line(__doc__).parse_args()
    table = []
    for n_functions, n_sets, spread in ((8, 5, 0.2), (8, 10, 0.2), (8, 5, 0.0), (4, 5, 0.2), (24, 5, 0.2)):
        generator = np.random.default_rng(0)
        simulated = SimulatedStudies(n_texts, n_functions, spread, generator)
        n_repeats = max(1, n_studies * 8 // n_functions)
        rows = pl.concat([study(simulated, n_sets, seed).with_columns(study=seed) for seed in range(n_repeats)])
        others = pl.col("truth").filter(~pl.col("is_on_target")).mean().over("study", "control", "source_function")
        selective = rows.with_columns(truth=pl.col("truth") - others).filter("is_on_target")
        case = [n_functions, n_sets, spread]
        for control in ("none", "random", "other"):
            found = rows.filter(control=control)
            table.append([*case, control, "difference", *summary(found)])
            table.append([*case, control, "selectivity", *summary(selective.filter(control=control), "selectivity_")])
    tests = [f"{name} <= {level}" for name in ("p_texts", "p_sets", "p_value") for level in LEVELS]
    header = ["functions", "control sets", "spread", "control", "of", "tests", *tests, "coverage"]
    print_table("False positives of perturbation studies, and coverage of their 95% intervals", header, table)


if __name__ == "__main__":
    main()
