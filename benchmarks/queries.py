"""Queries over a generated store of many checkpoints, against polars asked the same over the same files.

First is the first question to a new `Database`, which reads the store's commits and the files' footers; warm asks
it again. Polars scans all files of the table lazily with a filter on the checkpoint. The files are in the page
cache on both sides, the results in memory at the end, and equal. Medians of five; wall and CPU milliseconds, the
latter summed over threads.
"""

import contextlib
import operator
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from generated_store import MODEL, N_LAYERS, add_arguments, generate
from table import command_line, print_table

from neuronlake.queries.cache import materialize
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

NEURON, FUNCTION = ["run_id", "layer", "neuron"], ["run_id", "family", "function"]


def scan(store, name):
    """Return a table as a lazy frame."""
    return pl.scan_parquet([str(path) for path in store.files(name)])


def scan_scores(store, condition):
    """Return scores with their lifts, of the rows that meet a condition."""

    def prevalence_of(half):
        positive, negative = pl.col(f"n_positive_half_{half}"), pl.col(f"n_negative_half_{half}")
        return (positive / (positive + negative)).alias(f"prevalence_half_{half}")

    def rises(suffix):
        p = pl.col("prevalence" + suffix)
        return pl.col("ap" + suffix) - p, pl.col("ap_complement" + suffix) - (1 - p), pl.max_horizontal(p, 1 - p)

    def lift(suffix):
        positive, complement, most = rises(suffix)
        return (pl.max_horizontal(positive, complement) / most).alias("lift" + suffix)

    def signed_lift(suffix):
        positive, complement, most = rises(suffix)
        return (pl.when(positive >= complement).then(positive).otherwise(-complement) / most).alias(
            "signed_lift" + suffix
        )

    def predictivity(suffix):
        better = pl.max_horizontal("ap" + suffix, "ap_complement" + suffix)
        return better.alias("predictivity" + suffix)

    def held_out(half, other):
        positive, complement, most = rises(half)
        prefers = operator.ge(*rises(other)[:2])
        yield (pl.when(prefers).then(positive).otherwise(complement) / most).alias("held_out_lift" + half)
        prefers = pl.col("ap" + other) >= pl.col("ap_complement" + other)
        yield pl.when(prefers).then("ap" + half).otherwise("ap_complement" + half).alias("held_out_predictivity" + half)

    functions = scan(store, "run_functions").select(*FUNCTION, "prevalence", prevalence_of("a"), prevalence_of("b"))
    suffixes = ("", "_half_a", "_half_b")
    scores = scan(store, "neuron_functions").filter(condition).join(functions, on=FUNCTION, how="left")
    return scores.with_columns(
        *map(lift, suffixes),
        *map(signed_lift, suffixes),
        *map(predictivity, suffixes),
        *held_out("_half_a", "_half_b"),
        *held_out("_half_b", "_half_a"),
    )


def at(value, by):
    """Return the value where another is greatest."""
    return pl.col(value).get(pl.col(by).arg_max())


def polars_specialization(store, revision):
    """Return each neuron's best function, the lift of the second family, and the lift held out."""
    families = (
        scan_scores(store, pl.col("revision") == revision)
        .group_by(*NEURON, "family", maintain_order=True)
        .agg(
            pl.max("lift"),
            at("function", "lift"),
            at("predictivity", "lift"),
            pl.max("lift_half_a"),
            at("held_out_lift_half_b", "lift_half_a"),
        )
    )
    return (
        families.group_by(NEURON)
        .agg(
            at("family", "lift"),
            at("function", "lift"),
            at("predictivity", "lift"),
            pl.max("lift"),
            pl.col("lift").sort(descending=True).get(1, null_on_oob=True).alias("second_family_lift"),
            at("held_out_lift_half_b", "lift_half_a").alias("held_out_lift"),
        )
        .sort(NEURON)
        .collect()
    )


def polars_top(store, condition, function):
    """Return the 100 neurons that detect a function best."""
    scores = scan_scores(store, condition & (pl.col("function") == function))
    return scores.select(*NEURON, "lift").top_k(100, by="lift").sort("lift", descending=True).collect()


def polars_best_predictivity(store, revision):
    """Return the mean over functions of the best neuron's scores, a layer and family."""
    held_out = []
    for name in ("predictivity", "lift"):
        a_to_b = at(f"held_out_{name}_half_b", f"{name}_half_a")
        b_to_a = at(f"held_out_{name}_half_a", f"{name}_half_b")
        held_out.append(((a_to_b + b_to_a) / 2).alias(f"held_out_{name}"))
    best = scan_scores(store, pl.col("revision") == revision).group_by("layer", "family", "function")
    best = best.agg(pl.max("predictivity", "ap", "lift"), *held_out)
    means = best.group_by("layer", "family").agg(
        pl.mean("predictivity", "ap", "lift", "held_out_predictivity", "held_out_lift")
    )
    return means.sort("layer", "family").collect()


def polars_similarity(store, revision, k):
    """Return the overlap of the k best neurons of each two functions of a layer."""
    tops = (
        scan_scores(store, pl.col("revision") == revision)
        .group_by("layer", "family", "function")
        .agg(pl.col("neuron").top_k_by("lift", k))
    )
    pairs = tops.join(tops, on="layer", suffix="_b").filter(
        pl.concat_str("family", "function", separator="/") < pl.concat_str("family_b", "function_b", separator="/")
    )
    shared = pl.col("neuron").list.set_intersection("neuron_b").list.len()
    return pairs.select("layer", "family", "function", "family_b", "function_b", overlap=shared / k).collect()


def polars_by_family(paths):
    """Return the neurons and the mean lift of each checkpoint and family, of the kept view."""
    groups = pl.scan_parquet(paths).group_by("revision", "step", "family").agg(pl.len(), pl.mean("lift"))
    return groups.sort("step", "family").collect()


def measure(function, repeats):
    """Return median wall and CPU milliseconds of a call, and what it returned."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (time.process_time() - cpu))
    return statistics.median(walls), statistics.median(cpus), result


def ask(store, query):
    """Open the store, run a query, and return how many rows it gives."""
    with Database(store) as database:
        return len(database.sql(query))


def compare(ours, theirs, columns):
    """Stop if the numbers differ: then one side did another work."""
    for name in columns:
        mine, other = ours.pl()[name].to_numpy(), theirs[name].to_numpy()
        if not np.allclose(mine.astype(float), other.astype(float), atol=1e-5, equal_nan=True):
            raise SystemExit(f"polars finds another {name}")


def time_question(store, what, query, peer, columns, target, arguments):
    """Return the row of one question."""
    first_wall, first_cpu, _ = measure(lambda: ask(store, query), arguments.repeats)
    with Database(store) as database:
        database.sql(query)
        wall, cpu, ours = measure(lambda: database.sql(query), arguments.repeats)
        peer()
        peer_wall, peer_cpu, theirs = measure(peer, arguments.repeats)
        compare(ours, theirs, columns)
        n_rows = len(ours)
    met = "" if target is None else f"≤ {target} ms: {'met' if wall <= target else 'missed'}"
    if target is not None and wall <= target < first_wall:
        met += " when warm"
    times = (first_wall, first_cpu, wall, cpu, peer_wall, peer_cpu)
    return [what, f"{n_rows:,}", *(f"{each:,.0f}" for each in times), f"{peer_wall / wall:.1f}×", met]


def questions(store, arguments):
    """Return what is asked of the store as it is: name, SQL, the same in polars, columns to compare, target in ms."""
    number = arguments.checkpoints // 2
    revision, function = f"step{1000 * number}", "function007"
    here = f"model = '{MODEL}' and revision = '{revision}'"
    only = pl.col("revision") == revision
    k = max(1, arguments.neurons // N_LAYERS // 96)
    top = "select run_id, layer, neuron, lift from neuron_scores where {} order by lift desc limit 100"
    return [
        (
            "one checkpoint's specialization",
            f"select * from specialization where {here} order by layer, neuron",
            lambda: polars_specialization(store, revision),
            ("lift", "second_family_lift", "predictivity"),
            150,
        ),
        (
            "top 100 neurons of a function, one checkpoint",
            top.format(f"{here} and function = '{function}'"),
            lambda: polars_top(store, only, function),
            ("lift",),
            150,
        ),
        (
            "top 100 neurons of a function, all checkpoints",
            top.format(f"function = '{function}'"),
            lambda: polars_top(store, pl.lit(True), function),
            ("lift",),
            None,
        ),
        (
            "one checkpoint's best_predictivity",
            f"select * from best_predictivity where {here} order by layer, family",
            lambda: polars_best_predictivity(store, revision).rename({"predictivity": "best_predictivity"}),
            ("best_predictivity", "held_out_predictivity", "held_out_lift"),
            None,
        ),
        (
            "one checkpoint's function_similarity",
            f"select * from function_similarity where {here} order by overlap",
            lambda: polars_similarity(store, revision, k).sort("overlap"),
            ("overlap",),
            None,
        ),
    ]


def kept_questions(paths, arguments):
    """Return what is asked once specialization is materialized, polars reading the kept files."""
    revision = f"step{1000 * (arguments.checkpoints // 2)}"
    return [
        (
            "one checkpoint's specialization",
            f"select * from specialization where model = '{MODEL}' and revision = '{revision}' order by layer, neuron",
            lambda: pl.scan_parquet(paths).filter(pl.col("revision") == revision).sort("layer", "neuron").collect(),
            ("lift", "held_out_lift"),
            None,
        ),
        (
            "neurons and mean lift by checkpoint and family",
            "select revision, step, family, count(*) as len, avg(lift) as lift from specialization "
            "group by all order by step, family",
            lambda: polars_by_family(paths),
            ("len", "lift"),
            100,
        ),
    ]


def main():
    """Print the tables."""
    parser = command_line(__doc__)
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--store", type=Path, help="keep the generated store here, and use what is there")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        path = arguments.store or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        store = Store(path)
        generate(store, arguments)
        sizes = [(file.n_rows, file.size_bytes) for commit in store.commits() for file in commit.files]
        n_rows, n_bytes = map(sum, zip(*sizes, strict=True))
        title = f"{arguments.checkpoints} checkpoints"
        note = f"{n_rows / 1e6:,.1f} M rows, {n_bytes / 1e9:.1f} GB."
        opening, opening_cpu, _ = measure(lambda: ask(store, "select 1"), arguments.repeats)
        runs, runs_cpu, _ = measure(lambda: ask(store, "select * from runs"), arguments.repeats)
        rows = [
            ["opening", 1, f"{opening:,.0f}", f"{opening_cpu:,.0f}", *[""] * 6],
            ["opening and listing runs", arguments.checkpoints, f"{runs:,.0f}", f"{runs_cpu:,.0f}", *[""] * 6],
        ]
        header = ["question", "rows", "first, wall ms", "first, CPU ms", "warm, wall ms", "warm, CPU ms"]
        header += ["polars, wall ms", "polars, CPU ms", "wall ratio", "target, wall"]
        rows += [time_question(store, *question, arguments) for question in questions(store, arguments)]
        print_table(f"Queries over {title}", header, rows, note)
        with Database(store) as database:
            wall, cpu, kept = measure(lambda: materialize(database, ["specialization"]), 1)
        paths = [piece.path for piece in kept]
        rows = [time_question(store, *question, arguments) for question in kept_questions(paths, arguments)]
        if n_new := sum(piece.is_new for piece in kept):
            size = sum(piece.size_bytes for piece in kept) / 1e6
            note = f"Materializing {n_new} runs took {wall / 1e3:.1f} s ({cpu / 1e3:.1f} CPU s), {size:.0f} MB."
        print_table(f"Specialization materialized: {title}", header, rows, note)


if __name__ == "__main__":
    main()
