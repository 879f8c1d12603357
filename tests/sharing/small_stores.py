"""Stores of a corpus, runs, and what is made of them, a few rows each, as laboratories would make them."""

import datetime
from collections.abc import Mapping
from pathlib import Path

from neuronlake.schema.conformance import conform
from neuronlake.schema.store import Store
from neuronlake.schema.tables import TABLES
from neuronlake.schema.vocabulary import JobKind

_BLANKS = {"string": "", "timestamp": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "bool": False}
RUN, OTHER_RUN, PARTITION, ALIGNMENT = "aa11", "aa22", "bb11", "cc11"


def commit(path: Path, name: str, kind: JobKind, tables: Mapping[str, list[dict]]) -> None:
    """Commit a job of these rows; what is not given is blank."""
    with Store(path).job(name, kind=kind) as job:
        for table, rows in tables.items():
            blank = {
                column.name: _BLANKS.get(column.type, 0) for column in TABLES[table].columns if not column.nullable
            }
            job.write(table, conform(table, [blank | row for row in rows]))
        job.commit()


def add_corpus(path: Path, name: str = "words", *, digest: str = "d1", source: str = "words.jsonl") -> None:
    corpus = {"corpus": name, "corpus_sha256": digest, "source": source}
    texts = [{"corpus": name, "text_id": number, "text": f"text {number}"} for number in range(2)]
    commit(path, f"corpus-{name}", "corpus", {"corpora": [corpus], "texts": texts})


def add_run(
    path: Path,
    run_id: str = RUN,
    *,
    shift: float = 0,
    device: str = "cpu",
    n_positive: int = 5,
    dtype: str = "float32",
    reverse: bool = False,
) -> None:
    """Commit a run of three neurons, all scores shifted."""
    keys = {"run_id": run_id, "model": "tiny", "revision": "main"}
    run = {**keys, "corpus": "words", "corpus_sha256": "d1", "device": device, "dtype": dtype, "duration_s": 1 + shift}
    function = {**keys, "family": "task", "function": "animal", "n_positive": n_positive}
    scores = [
        {**keys, "neuron": neuron, "family": "task", "function": "animal", "ap": 0.5 + neuron / 10 + shift}
        for neuron in range(3)
    ]
    tables = {"runs": [run], "run_functions": [function], "neuron_functions": scores[:: -1 if reverse else 1]}
    commit(path, run_id, "run", tables)


def add_best(path: Path, run_id: str = RUN, *, shift: float = 0) -> None:
    best = {"run_id": run_id, "model": "tiny", "family": "task", "function": "animal", "ap": 0.5 + shift}
    commit(path, f"best-{run_id}", "best", {"neuron_best": [best]})


def add_partition(path: Path, name: str = PARTITION, *, run_id: str | None = RUN, duration_s: float = 1) -> None:
    partition = {"partition_id": name, "model": "tiny", "run_id": run_id, "duration_s": duration_s}
    commit(path, name, "partition", {"partitions": [partition], "experts": [{"partition_id": name}]})


def add_alignment(path: Path) -> None:
    alignment = {"alignment_id": ALIGNMENT, "run_id": RUN, "partition_id": PARTITION}
    commit(path, ALIGNMENT, "alignment", {"alignments": [alignment]})
