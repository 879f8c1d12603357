"""Ten questions about other runs and functions, each in a new process: process CPU milliseconds, first and warm.

    python questions.py [STORE]

Each process opens the store and asks one run's ``specialization``, the top 100 neurons of a function, and the former
through a join to ``runs``. First is the first question to a new `Database`, which reads commits and footers; warm is
the lesser of two more. ``--check`` compares all rows with those that SQL computes from scores alone, without
``neuron_best`` and ``function_top_neurons``. ``--beside`` asks another store, such as one of fewer runs, in turn.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from generated_store import MODEL
from table import command_line, print_table

from neuronlake.queries.database import Database

TARGETS = {"first": 300, "warm": 150}


def questions(number, function):
    """Return what is asked about a checkpoint and a function, by name; rows in a definite order."""
    revision, named = f"revision = 'step{1000 * number}'", f"function = 'function{function:03}'"
    order = "order by layer, neuron"
    return {
        "specialization": f"select * from specialization where model = '{MODEL}' and {revision} {order}",
        "top 100": f"select * from top_neurons where {revision} and {named} order by lift desc, layer, rank limit 100",
        "joined": f"select s.* from specialization as s join runs using (run_id) where runs.{revision} {order}",
    }


def cpu_ms(function):
    """Return the CPU milliseconds of a call, of all threads."""
    start = time.process_time()
    function()
    return 1e3 * (time.process_time() - start)


def ask(store, number, function):
    """Return by question the milliseconds of the first time and of the lesser of two more."""
    times = {}
    for name, query in questions(number, function).items():
        start = time.process_time()
        with Database(store) as database:
            database.sql(query)
            first = 1e3 * (time.process_time() - start)
            warm = min(cpu_ms(lambda asked=database, query=query: asked.sql(query)) for _ in range(2))
        times[name] = {"first": first, "warm": warm}
    return times


def differing(store, number, function):
    """Return the names of the questions whose rows are others where what comes first is not stored."""
    with Database(store) as stored, Database(store) as live:
        live.__dict__["committed"] = {
            **stored.committed,
            "neuron_best": [],
            "function_top_neurons": [],
            "unlisted_scores": stored.committed["neuron_functions"],
        }
        asked = questions(number, function).items()
        return [name for name, query in asked if stored.sql(query).rows() != live.sql(query).rows()]


def asked_anew(store, number, function):
    """Return what `ask` measures, in a process of its own."""
    command = [sys.executable, __file__, str(store), "--one", f"{number},{function}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def summary(times):
    """Return by question the median and the most of the first and of the warm milliseconds."""
    return {
        name: {
            kind: [f(each[name][kind] for each in times) for f in (statistics.median, max)]
            for kind in ("first", "warm")
        }
        for name in times[0]
    }


def main():
    """Print the table."""
    parser = command_line(__doc__)
    store = Path("../build/generated")
    parser.add_argument("store", type=Path, nargs="?", default=store, help="a store that generated_store.py wrote")
    parser.add_argument("--beside", type=Path, help="another one, for ratios")
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--check", action="store_true", help="compare rows with those made of scores alone")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(ask(arguments.store, *map(int, arguments.one.split(",")))))
        return
    if not arguments.store.is_dir():
        raise SystemExit(f"{arguments.store} is no store; python generated_store.py {arguments.store} writes it")
    stores = [store for store in (arguments.store, arguments.beside) if store]
    sizes = []
    for store in stores:
        with Database(store) as database:
            sizes.append({name: sum(file.n_rows for file in files) for name, files in database.committed.items()})
    n_runs, n_functions = (min(size[name] for size in sizes) for name in ("runs", "run_functions"))
    n_functions //= min(size["runs"] for size in sizes)
    asked = [(7 * each % n_runs, 13 * each % n_functions) for each in range(arguments.questions)]
    times = [[asked_anew(store, *each) for store in stores] for each in asked]
    summaries = [summary(of_store) for of_store in zip(*times, strict=True)]
    wrong = [(each, differing(stores[0], *each)) for each in asked] if arguments.check else []
    if any(names for _, names in wrong):
        raise SystemExit(f"other rows than from scores alone: {wrong}")
    rows = []
    for name, numbers in summaries[0].items():
        row = [name]
        for kind, target in TARGETS.items():
            median, most = numbers[kind]
            row += [f"{median:.0f}", f"{most:.0f}", f"≤ {target}: {'met' if median <= target else 'missed'}"]
            row += [f"{median / other[name][kind][0]:.2f}×" for other in summaries[1:]]
        rows.append(row)
    header = ["question"]
    for kind in TARGETS:
        header += [f"{kind}, CPU ms, median", "most", "target", *["over the other store"] * (len(stores) - 1)]
    n_rows = sizes[0]["neuron_functions"]
    note = f"{len(asked)} questions each, {n_rows / 1e6:,.1f} M scores" + ", beside a store of " * (len(stores) - 1)
    note += "".join(f"{size['runs']} runs" for size in sizes[1:])
    note += "; all rows equal those made of scores alone." if arguments.check else "."
    print_table(f"Questions of {sizes[0]['runs']} runs", header, rows, note)


if __name__ == "__main__":
    main()
