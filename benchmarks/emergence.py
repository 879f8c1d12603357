"""Stability over checkpoints in SQL, against the usual script: polars reads the scores, scipy's spearmanr each pair.

A generated store of checkpoints with random partitions. Both sides make the curves of neurons and of every partition,
to the previous and the last checkpoint, uncorrected and their halves. The results are equal but for scores
within a billionth of each other, which are ties in SQL. CPU time is summed over
threads; the script is given the scores read once, and as arrays.

A second table is of storing stability of neurons, as ``neuronlake emergence`` does, in stores of ever more checkpoints.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from generated_store import MODEL, N_LAYERS, generate
from queries import measure, scan_scores
from scipy.stats import spearmanr
from table import command_line, exponents, print_table

from neuronlake.analysis.emergence.series import find_series
from neuronlake.analysis.emergence.stability import store_stability
from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.progress import SilentProgress
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

LIFTS = ("signed_lift", "signed_lift_half_a", "signed_lift_half_b")
CORRELATIONS = (
    "correlation",
    "split_half_correlation",
    "reference_split_half_correlation",
    "cross_half_correlation",
)


def partition(store, arguments):
    """Add random partitions of the last checkpoint; return the expert of each neuron. [layers, neurons] each."""
    revision = f"step{1000 * (arguments.checkpoints - 1)}"
    for seed in range(arguments.partitions):
        settings = PartitionSettings("random", n_experts=arguments.experts, seed=seed)
        partition_model(MODEL, store=store.path, settings=settings, revision=revision)
    with Database(store) as database:
        rows = database.sql("select partition_id, expert from experts order by partition_id, layer, neuron").pl()
    return {key: part["expert"].to_numpy().reshape(N_LAYERS, -1) for (key,), part in rows.group_by("partition_id")}


def script(store, partitions, arguments):
    """Return the mean correlations by partition, family, reference and step, as the view has them."""
    scores = scan_scores(store, pl.lit(True)).select("step", "layer", "neuron", "family", "function", *LIFTS)
    frame = scores.sort("step", "layer", "neuron", "family", "function").collect()
    functions = frame.select("family", "function").unique().sort("family", "function")
    shape = (arguments.checkpoints, N_LAYERS, -1, functions.height)
    neurons = np.stack([frame[name].to_numpy().reshape(shape) for name in LIFTS])
    steps = frame["step"].unique().sort().to_list()
    rows = []
    for key, experts in {"*": None, **partitions}.items():
        units = neurons if experts is None else means(neurons, experts)
        for index, step in enumerate(steps):
            for reference, other in (("previous", index - 1), ("last", len(steps) - 1)):
                if other >= 0 and other != index:
                    rows += [
                        {"partition_id": key, "step": step, "reference": reference, "family": family, **each}
                        for family, each in zip(
                            functions["family"], pairs(units[:, index], units[:, other]), strict=True
                        )
                    ]
    return pl.DataFrame(rows).group_by("partition_id", "step", "reference", "family").mean().sort(pl.all())


def means(neurons, experts):
    """Return the mean score of each expert. [3, checkpoints, layers, experts, functions]."""
    n_experts = int(experts.max()) + 1
    layers = []
    for layer in range(len(experts)):
        members = np.eye(n_experts)[:, experts[layer]]
        layers.append(np.einsum("en,wsnf->wsef", members / members.sum(1, keepdims=True), neurons[:, :, layer]))
    return np.stack(layers, axis=2)


def pairs(here, there):
    """Yield the mean correlations over layers of two checkpoints [3, layers, units, functions], by function."""
    for function in range(here.shape[-1]):
        found = []
        for layer in range(here.shape[1]):
            (x, a, b), (y, c, d) = here[:, layer, :, function], there[:, layer, :, function]
            crossed = (spearmanr(a, d).statistic + spearmanr(b, c).statistic) / 2
            found.append((spearmanr(x, y).statistic, spearmanr(a, b).statistic, spearmanr(c, d).statistic, crossed))
        yield dict(zip(CORRELATIONS, np.mean(found, axis=0), strict=True))


def view(store):
    """Return the same from ``stability_curves``."""
    query = f"""
        select partition_id, step, reference, family, {", ".join(CORRELATIONS)}
        from stability_curves
        where model = '{MODEL}' and (partition_id = '*' or level != 'neuron')
        order by all
    """
    with Database(store) as database:
        return database.sql(query).pl()


def storing(folder, sizes):
    """Print how long stability takes to store, of series of ever more checkpoints."""
    rows = []
    for n_checkpoints in sizes:
        store = Store(folder / f"{n_checkpoints}-checkpoints")
        generate(store, argparse.Namespace(checkpoints=n_checkpoints, neurons=36_864, functions=50), lists=False)
        with Database(store) as database:
            n_scores = database.sql("select count(*) from neuron_functions").rows()[0][0]
            series = find_series(database, MODEL)
            wall, cpu, _ = measure(lambda: store_stability(database, series, (), SilentProgress()), 1)  # noqa: B023
        rows.append((n_checkpoints, n_scores, wall / 1e3, cpu / 1e3))
    growth = exponents([row[1] for row in rows], [row[3] for row in rows])
    print_table(
        "Storing stability",
        ("checkpoints", "scores", "wall s", "CPU s", "CPU ns a score", "exponent"),
        [[n_checkpoints, f"{n_scores:,}", f"{wall:.1f}", f"{cpu:.1f}", f"{cpu / n_scores * 1e9:.0f}", exponent]
         for (n_checkpoints, n_scores, wall, cpu), exponent in zip(rows, growth, strict=True)],
        "12 layers of 3,072 neurons, 50 functions.",
    )  # fmt: skip


def main():
    """Generate a store, ask both, compare and print."""
    parser = command_line(__doc__)
    parser.add_argument("--checkpoints", type=int, default=11)
    parser.add_argument("--neurons", type=int, default=3072)
    parser.add_argument("--functions", type=int, default=12)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--stored", type=int, nargs="*", default=[4, 8, 16], metavar="CHECKPOINTS")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        generate(store, arguments)
        partitions = partition(store, arguments)
        wall, cpu, ours = measure(lambda: view(store), 3)
        peer_wall, peer_cpu, theirs = measure(lambda: script(store, partitions, arguments), 1)
        storing(Path(folder), arguments.stored)
    theirs = theirs.select(ours.columns).sort(ours.columns[:4])
    ours = ours.sort(ours.columns[:4])
    for name in CORRELATIONS:
        if not np.allclose(ours[name].to_numpy(), theirs[name].to_numpy(), atol=1e-5):
            raise SystemExit(f"the script finds another {name}")
    print_table(
        f"Stability of {arguments.checkpoints} checkpoints",
        ("rows", "SQL wall s", "SQL CPU s", "script wall s", "script CPU s", "CPU ratio"),
        [[f"{len(ours):,}", *(f"{each / 1e3:.1f}" for each in (wall, cpu, peer_wall, peer_cpu)),
          f"{peer_cpu / cpu:.1f}×"]],
        f"{arguments.neurons:,} neurons, {arguments.functions} functions, {arguments.partitions} partitions.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
