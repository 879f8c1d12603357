"""What control functions cost beside a run's own: CPU seconds of scoring, one thread, against none.

    python controls.py

Words of texts (twelve a text, Zipfian), each of one of 41 classes; a control permutes the classes. 64 neurons of random
activations, nearly all of them above their minimum, which is dear: a ReLU's zeros cost nothing.
"""

import time

import numpy as np
from table import command_line, exponents, print_table

from neuronlake.ingest.corpora.labels import LabelIndex
from neuronlake.ingest.scores.clusters import Clusters
from neuronlake.ingest.scores.scoring import score

N_INSTANCES, N_CLASSES, N_NEURONS, N_REPEATS = 86_000, 41, 64, 5


def label_index(classes):
    """Return the index of instances that are each of one class."""
    return LabelIndex.build(
        [("class", str(number)) for number in range(N_CLASSES)],
        is_rest=np.ones(N_CLASSES, np.bool_),
        half=(np.arange(N_INSTANCES) % 2).astype(np.uint8),
        instance=np.arange(N_INSTANCES),
        function=classes.astype(np.int32),
        is_positive=np.ones(N_INSTANCES, np.uint8),
    )


def main():
    """Print the table."""
    command_line(__doc__).parse_args()
    generator = np.random.default_rng(0)
    share = 1 / np.arange(1, N_CLASSES + 1)
    classes = generator.choice(N_CLASSES, N_INSTANCES, p=share / share.sum())
    text = np.arange(N_INSTANCES) // 12
    clusterings = {"text": text, "group": text, "word": generator.zipf(1.3, N_INSTANCES) % 8000}
    sets = [label_index(classes), *(label_index(generator.permutation(classes)) for _ in range(6))]
    clusters = [Clusters.build(labels, clusterings) for labels in sets]
    activations = generator.standard_normal((N_NEURONS, N_INSTANCES), np.float32)
    seconds = {}
    for n_controls in (0, 1, 2, 3, 6):
        labels, joined = LabelIndex.joined(sets[: n_controls + 1]), Clusters.joined(clusters[: n_controls + 1])
        score(activations[:1], labels, joined)
        times = []
        for _ in range(N_REPEATS):
            start = time.process_time()
            score(activations, labels, joined).rounded()
            times.append(time.process_time() - start)
        seconds[n_controls] = min(times)
    slopes = exponents([n + 1 for n in seconds], list(seconds.values()))
    rows = [
        [n, f"{each:.3f}", f"{each / seconds[0]:.2f}", slope]
        for (n, each), slope in zip(seconds.items(), slopes, strict=True)
    ]
    note = f"{N_NEURONS} neurons, {N_INSTANCES:,} instances, {N_CLASSES} functions; exponents with the run's set."
    print_table("Control functions", ["sets of controls", "CPU s", "over none", "exponent"], rows, note)


if __name__ == "__main__":
    main()
