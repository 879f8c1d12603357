"""The dataset card: what makes the folder a Hugging Face dataset, and what a stranger reads first."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .commits import Commit
from .tables import TABLES, Table

# Sizes of datasets as the Hub names them: of numbers of rows of up to three digits, four and so on.
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "n>1B")
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


@dataclass(frozen=True, slots=True)
class Facts:
    """What the card of a pack says beside its tables."""

    models: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()  # names and descriptions
    licences: tuple[str, ...] = ()  # of the corpora, where known


def is_current(path: Path, commits: Sequence[Commit]) -> bool:
    """Return whether the card in a file counts the rows of these commits; a store without rows needs no card."""
    counted = {table.name: f"{n_rows:,}" for table, n_rows in _filled(commits)}
    if not path.exists():
        return not counted
    return dict(_COUNT.findall(path.read_text(encoding="utf-8", errors="replace"))) == counted


def text(commits: Sequence[Commit], facts: Facts | None = None) -> str:
    """Return the card of a store with these commits: YAML with one config a table, then a data dictionary."""
    filled = _filled(commits)
    lines = ["---", "pretty_name: neuronlake store", "tags:", "- neuronlake", "- interpretability"]
    lines += [] if facts is None else _published(facts, filled)
    lines += ["configs:"]
    for table, _ in filled:
        default = ["  default: true"] if table.name == "neuron_functions" else []
        lines += [f"- config_name: {table.name}", *default, f"  data_files: data/{table.name}/**/*.parquet"]
    lines += ["---", _INTRODUCTION]
    lines += [] if facts is None else _about(commits, facts)
    for table, n_rows in filled:
        grain = ", ".join(f"`{name}`" for name in table.grain)
        lines += [f"## {table.name}", "", f"{table.description}. {n_rows:,} rows, one for each {grain}.", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{column.name}` | {column.type} | {column.description} |" for column in table.columns]
        lines += [""]
    return "\n".join(lines)


def _published(facts: Facts, filled: Sequence[tuple[Table, int]]) -> list[str]:
    """Return the lines of YAML by which the Hub finds a dataset: models, licence and size."""
    most = max((n_rows for _, n_rows in filled), default=0)
    size = _SIZES[min(max(len(str(most)) - 3, 0), len(_SIZES) - 1)]
    models = ["base_model:", *(f"- {json.dumps(model)}" for model in facts.models)] if facts.models else []
    # What the corpora say in words is below; the Hub knows licences by identifiers alone.
    return [*models, "license: other", "size_categories:", f"- {size}"]


def _about(commits: Sequence[Commit], facts: Facts) -> list[str]:
    """Return what the pack is of, where it comes from and how to cite it."""
    versions = sorted({commit.neuronlake_version for commit in commits})
    dates = sorted(commit.committed_at[:10] for commit in commits)
    n_bytes = sum(commit.size_bytes for commit in commits)
    lines = ["## About", "", f"- Models: {', '.join(facts.models) or 'none'}"]
    lines += [f"- Corpus {corpus}" for corpus in facts.corpora]
    lines += [f"- Licences of the corpora: {'; '.join(facts.licences) or 'unknown: ask before you pass it on'}"]
    if dates:
        made = f"{len(commits):,} jobs from {dates[0]} to {dates[-1]}, by neuronlake {', '.join(versions)}"
        lines += [f"- Made in {made}; {n_bytes:,} bytes"]
    lines += ["- Verify it: `neuronlake share verify .`, and `--recompute all` with the models at hand"]
    lines += ["- Cite the models, the corpora, and neuronlake (CITATION.cff in its repository)", ""]
    return lines


def _filled(commits: Sequence[Commit]) -> list[tuple[Table, int]]:
    """Return the tables that hold rows, and how many."""
    files = [file for commit in commits for file in commit.files]
    counts = [(table, sum(file.n_rows for file in files if file.table == table.name)) for table in TABLES.values()]
    return [(table, n_rows) for table, n_rows in counts if n_rows]
