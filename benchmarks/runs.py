"""What a store of many runs costs: opening it, all views, and questions about one run, with exponents of growth.

    python runs.py [--runs 10 50 200]

Runs of 12 layers of 8 neurons and 6 functions, so that what grows is runs alone. First is the first question to a new
`Database`, which reads commits and footers; warm is the lesser of two more. Process CPU milliseconds, median of three
processes that ask all questions in turn.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from generated_store import generate
from questions import cpu_ms
from table import command_line, exponents, print_table

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

RUN = "revision = 'step3000'"
QUESTIONS = {
    "all views": "select count(*) from information_schema.tables",
    "list of runs": "select run_id, model, revision from runs",
    "one run's specialization": f"select * from specialization where {RUN}",
    "specialization, joined to runs": f"select s.* from specialization as s join runs using (run_id) where runs.{RUN}",
    "top neurons of a function in a run": f"select * from top_neurons where {RUN} and function = 'function003'",
}


def first_and_warm(store, query):
    """Return the CPU milliseconds of the first time and of the lesser of two more."""
    start = time.process_time()
    with Database(store) as database:
        database.sql(query)
        first = 1e3 * (time.process_time() - start)
        return first, min(cpu_ms(lambda: database.sql(query)) for _ in range(2))


def ask(store):
    """Return by question the medians of `first_and_warm` in three processes."""
    command = [sys.executable, __file__, "--one", str(store)]
    times = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(3)]
    return {name: [statistics.median(each[name][kind] for each in times) for kind in (0, 1)] for name in QUESTIONS}


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        first_and_warm(arguments.one, "select 1")  # imports
        print(json.dumps({name: first_and_warm(arguments.one, query) for name, query in QUESTIONS.items()}))
        return
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for n_runs in arguments.runs:
            size = argparse.Namespace(checkpoints=n_runs, neurons=96, functions=6)
            generate(Store(Path(folder) / "store"), size)  # adds the runs that the last one lacks
            found.append(ask(Path(folder) / "store"))
    rows = []
    for question in QUESTIONS:
        for kind, name in enumerate(("first", "warm")):
            values = [times[question][kind] for times in found]
            slopes = exponents(arguments.runs, values)[1:]
            rows.append([question, name, *(f"{each:.0f}" for each in values), *slopes])
    of = [f"{n_runs} runs, CPU ms" for n_runs in arguments.runs]
    of += [f"exponent to {n_runs}" for n_runs in arguments.runs[1:]]
    print_table("Growth with runs", ["question", "time", *of], rows)


if __name__ == "__main__":
    main()
