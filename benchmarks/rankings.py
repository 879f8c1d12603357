"""A measured run by either ranking: which top neurons they share, and the authors' own test beside ours.

    python rankings.py --store STORE --run RUN

The first table has the share of the top neurons by lift that are top neurons by predictivity too, over functions and
layers, by prevalence. The second has, for each partition and ranking, the functional experts of single functions that
numpy and scipy find from the stored scores (Zhang et al. 2023: the 1% of a layer with the highest scores,
hypergeometric p of at most .001), and in how many tests count and verdict are those of our view.
"""

from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats
from table import command_line, print_table

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

SHARED = """
    with shared as (
        select run_id, stack, layer, family, function, any_value(tops.n_top) as n_top, count(other.neuron) as n_shared
        from top_neurons as tops
        left join top_neurons_by('predictivity') as other
            using (run_id, stack, layer, family, function, neuron)
        where run_id = $run
        group by all
    )
    select
        list_max(list_filter([0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.55, 0.7], lambda x: x <= prevalence)) as least,
        round(min(prevalence), 4) || ' to ' || round(max(prevalence), 4), count(*),
        round(avg(n_shared / n_top), 3), round(min(n_shared / n_top), 2), round(max(n_shared / n_top), 2)
    from shared
    inner join run_functions using (run_id, family, function)
    group by least
    order by least
"""
TESTS = """
    select partition_id, stack, layer, family, function, expert, n_top, is_functional
    from expert_function_alignment_by($ranking) where run_id = $run
"""


def read(store, table, **keys):
    """Return the rows of a table that have these keys."""
    return pl.concat([pl.scan_parquet(path) for path in store.files(table)], how="diagonal").filter(**keys).collect()


def authors_rule(scores, experts, prevalences, ranking):
    """Return n_top and whether p is at most .001, by partition, stack, layer, family, function and expert."""
    found = {}
    for (stack, layer, family, function), rows in scores.sort("neuron").group_by(
        "stack", "layer", "family", "function"
    ):
        ap, complement = (rows[name].to_numpy().astype(float) for name in ("ap", "ap_complement"))
        prevalence = prevalences[family, function]
        above = np.maximum(ap - prevalence, complement - (1 - prevalence)) / max(prevalence, 1 - prevalence)
        values = np.maximum(ap, complement) if ranking == "predictivity" else above
        top = np.argsort(-values, kind="stable")[: max(1, len(rows) // 100)]
        for (partition,), members in experts.filter(stack=stack, layer=layer).sort("neuron").group_by("partition_id"):
            labels = members["expert"].to_numpy()
            sizes = np.bincount(labels)
            counts = np.bincount(labels[top], minlength=len(sizes))
            p_values = stats.hypergeom.sf(counts - 1, len(rows), len(top), sizes)
            for expert, (n_top, p) in enumerate(zip(counts.tolist(), p_values.tolist(), strict=True)):
                found[partition, stack, layer, family, function, expert] = (n_top, p <= 0.001)
    return found


def main():
    """Print the tables."""
    parser = command_line(__doc__)
    parser.add_argument("--store", type=Path, default=Path("../neuronlake-store"), help="the demo's by default")
    parser.add_argument(
        "--run", help="run_id of a measured run, its first one by default; partitions cover whole layers"
    )
    arguments = parser.parse_args()
    if not arguments.store.is_dir():
        raise SystemExit(f"{arguments.store} is no store; `make demo` makes it")
    store = Store(arguments.store)
    with Database(store) as database:
        first = (
            "select run_id from runs where measurement = 'measured' and not is_random_init order by started_at limit 1"
        )
        run = arguments.run or database.sql(first).rows()[0][0]
        rows = [row[1:] for row in database.sql(SHARED, {"run": run}).rows()]
        header = ["prevalence", "functions × layers", "shared, mean", "least", "most"]
        print_table("Top neurons by lift that are top neurons by predictivity", header, rows)
        partitions = database.sql("select partition_id, method from partitions order by 2, 1").rows()
        if not partitions:
            return
        scores, functions = (read(store, name, run_id=run) for name in ("neuron_functions", "run_functions"))
        prevalences = {row[:2]: row[2] for row in functions.select("family", "function", "prevalence").rows()}
        found, rows = {}, []
        for ranking in ("predictivity", "lift"):
            rule = authors_rule(scores, read(store, "experts"), prevalences, ranking)
            ours = database.sql(TESTS, {"run": run, "ranking": ranking}).rows()
            for partition, method in partitions:
                tests = {row[:6]: row[6:] for row in ours if row[0] == partition}
                same = sum(rule[key] == test for key, test in tests.items())
                found[partition, ranking] = {key for key, (_, is_functional) in tests.items() if is_functional}
                by_rule = sum(is_functional for key, (_, is_functional) in rule.items() if key[0] == partition)
                both = found[partition, ranking] & found[partition, "predictivity"]
                rows.append([f"{method} {partition}", ranking, len(tests), same, by_rule, len(both)])
    header = ["partition", "ranking", "tests", "equal to ours", "functional", "by predictivity too"]
    print_table("The authors' test by numpy and scipy", header, rows)


if __name__ == "__main__":
    main()
