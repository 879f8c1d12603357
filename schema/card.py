"""The dataset card: what makes the folder a Hugging Face dataset, and what a stranger reads first."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .tables import TABLES

if TYPE_CHECKING:
    from .commits import Commit

__all__ = ["is_current", "text"]

_COUNT = re.compile(r"^## (\w+)\n\n.*\. ([\d,]+) rows, one for each ", re.MULTILINE)


def is_current(path: Path, commits: "Sequence[Commit]") -> bool:
    """Return whether the card in a file counts the rows of these commits; a store without rows needs none.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    held = {name: f"{n:,}" for name, n in _n_rows(commits).items() if n}
    if not path.exists():
        return not held
    return dict(_COUNT.findall(path.read_text(encoding="utf-8", errors="replace"))) == held


def text(commits: "Sequence[Commit]") -> str:
    """Return the card of a store with these commits: YAML with one config a table, then a data dictionary."""
    n_rows = _n_rows(commits)
    held = [table for table in TABLES.values() if n_rows[table.name]]
    lines = ["---", "pretty_name: neuronlake store", "tags:", "- neuronlake", "- interpretability", "configs:"]
    for table in held:
        default = ["  default: true"] if table.name == "neuron_functions" else []
        lines += [f"- config_name: {table.name}", *default, f"  data_files: data/{table.name}/**/*.parquet"]
    lines += [
        "---",
        "",
        "# A neuronlake store",
        "",
        "What single neurons of transformers respond to, as tables. Query it with SQL:",
        "",
        "    pip install neuronlake",
        '    neuronlake --store . sql "select * from specialization limit 10"',
        "",
        "or read any table as plain Parquet. Tables join on `run_id` (and `stack`, `layer`, `neuron`).",
        "",
        "What is in no commit is no part of the store. Where a job was killed while it committed, `**/*.parquet` finds",
        "such files too until `neuronlake check --repair`; `neuronlake tables TABLE --files` lists what is committed.",
        "",
    ]
    for table in held:
        grain = ", ".join(f"`{name}`" for name in table.grain)
        lines += [
            f"## {table.name}",
            "",
            f"{table.description}. {n_rows[table.name]:,} rows, one for each {grain}.",
            "",
        ]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{column.name}` | {column.type} | {column.description} |" for column in table.columns]
        lines += [""]
    return "\n".join(lines)


def _n_rows(commits: "Sequence[Commit]") -> Mapping[str, int]:
    n_rows = dict.fromkeys(TABLES, 0)
    for commit in commits:
        for file in commit.files:
            n_rows[file.table] += file.n_rows
    return n_rows
