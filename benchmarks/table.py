"""Print a benchmark's results as Markdown tables and, with --out, keep them as JSON for docs/benchmarks.md.

A file of results is a list of tables, each with the command that made it, its date, and the machine. A table replaces
the one of the same title, so that a part of a benchmark can be run again.
"""

import argparse
import datetime
import importlib.metadata
import itertools
import json
import math
import os
import platform
import shlex
import sys
from pathlib import Path

PACKAGES = ("neuronlake", "duckdb", "polars", "pyarrow", "numba", "numpy", "torch", "transformers", "scikit-learn")
PEERS = ("nnsight", "transformer-lens")  # of the extra `bench`, where installed
_load = os.getloadavg()[0]  # before this process adds to it
_file = None


class _Out(argparse.Action):
    """Says where tables are kept."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Set the file."""
        global _file
        _file = values


def command_line(description):
    """Return a parser of arguments that knows --out."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, action=_Out, metavar="JSON", help="file of results to keep the tables in")
    return parser


def print_table(title, header, rows, note=""):
    """Print a title, a table and a note below it; keep them if asked to."""
    header, rows = list(map(str, header)), [list(map(str, row)) for row in rows]
    print(f"\n## {title}\n\n{markdown(header, rows)}" + (f"\n\n{note}" if note else ""), flush=True)
    if _file:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        made = {"command": _command(), "date": today, "machine": machine()}
        keep(_file, {"title": title, **made, "note": note, "header": header, "rows": rows})


def markdown(header, rows):
    """Return a table as Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def exponents(sizes, values):
    """Return the exponent of growth from each size to the next, the slope on logarithmic axes; none of the first."""
    steps = itertools.pairwise(zip(sizes, values, strict=True))
    return ["", *(f"{math.log(v / last_v) / math.log(n / last_n):z.2f}" for (last_n, last_v), (n, v) in steps)]


def machine():
    """Return what the tables were made on: processor, cores, load at the start, versions."""
    versions = {}
    for package in (*PACKAGES, *PEERS):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    version = platform.python_version()
    return {"processor": processor(), "cores": cores, "load": round(_load, 1), "python": version, "packages": versions}


def processor():
    """Return the model of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def read(file):
    """Return the tables of a file of results."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def keep(file, table):
    """Add a table to a file of results, in the place of one of the same title. A row is a line."""
    tables = {each["title"]: each for each in read(file)} | {table["title"]: table}
    shown = []
    for each in tables.values():
        fields = [f"{json.dumps(key)}: {_dumped(value)}" for key, value in each.items() if key != "rows"]
        rows = ",\n".join(f"  {_dumped(row)}" for row in each["rows"])
        shown.append("{\n " + ",\n ".join(fields) + f',\n "rows": [\n{rows}\n ]\n' + "}")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text("[\n" + ",\n".join(shown) + "\n]\n", encoding="utf-8")
    partial.replace(file)


def _dumped(value):
    return json.dumps(value, ensure_ascii=False)


def _command():
    """Return the command of this process as one types it in `benchmarks/`, without --out."""
    before = ["", *sys.argv[1:]]
    arguments = [each for last, each in zip(before, sys.argv[1:], strict=False) if "--out" not in (last, each)]
    arguments = [each for each in arguments if not each.startswith("--out=")]
    return shlex.join(["python", Path(sys.argv[0]).name, *arguments])
