"""The dataset card: what makes the folder a Hugging Face dataset, and what a stranger reads first."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .commits import Commit
from .tables import TABLES, Table

_COUNT = re.compile(r"^## (\w+)\n\n.*\. ([\d,]+) rows, one for each ", re.MULTILINE)
_INTRODUCTION = """
# A neuronlake store

What single neurons of transformers respond to, as tables. Query it with SQL:

    pip install neuronlake
    neuronlake --store . sql "select * from specialization limit 10"

or read any table as plain Parquet. Tables join on `run_id` (and `stack`, `layer`, `neuron`).

What is in no commit is no part of the store. Where a job was killed while it committed, `**/*.parquet` finds
such files too until `neuronlake check --repair`; `neuronlake tables TABLE --files` lists what is committed.
"""


def is_current(path: Path, commits: Sequence[Commit]) -> bool:
    """Return whether the card in a file counts the rows of these commits; a store without rows needs no card."""
    counted = {table.name: f"{n_rows:,}" for table, n_rows in _filled(commits)}
    if not path.exists():
        return not counted
    return dict(_COUNT.findall(path.read_text(encoding="utf-8", errors="replace"))) == counted


def text(commits: Sequence[Commit]) -> str:
    """Return the card of a store with these commits: YAML with one config a table, then a data dictionary."""
    filled = _filled(commits)
    lines = ["---", "pretty_name: neuronlake store", "tags:", "- neuronlake", "- interpretability", "configs:"]
    for table, _ in filled:
        default = ["  default: true"] if table.name == "neuron_functions" else []
        lines += [f"- config_name: {table.name}", *default, f"  data_files: data/{table.name}/**/*.parquet"]
    lines += ["---", _INTRODUCTION]
    for table, n_rows in filled:
        grain = ", ".join(f"`{name}`" for name in table.grain)
        lines += [f"## {table.name}", "", f"{table.description}. {n_rows:,} rows, one for each {grain}.", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{column.name}` | {column.type} | {column.description} |" for column in table.columns]
        lines += [""]
    return "\n".join(lines)


def _filled(commits: Sequence[Commit]) -> list[tuple[Table, int]]:
    """Return the tables that hold rows, and how many."""
    n_rows: Counter[str] = Counter()
    for commit in commits:
        for file in commit.files:
            n_rows[file.table] += file.n_rows
    return [(table, n_rows[table.name]) for table in TABLES.values() if n_rows[table.name]]
