"""Bytes a row and write rate of neuron_functions, against pyarrow's default Parquet, gzipped CSV and pickle.

The work: the scores of a model's neurons for functions of three families, a part of whole layers at a time, rounded as
ingestion writes them. The scores are the kernel's own, of simulated ReLU neurons that each respond to a few
functions. CSV and pickle are what pandas writes of one layer. CPU seconds of the process.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from table import command_line, print_table

from neuronlake.ingest.corpora.labels import LabelIndex
from neuronlake.ingest.jobs.sinks import PART_ROWS, neuron_function_rows
from neuronlake.ingest.scores.best import SCORE_NAMES
from neuronlake.ingest.scores.scoring import score
from neuronlake.schema import parquet
from neuronlake.schema.conformance import check
from neuronlake.schema.store import Store
from neuronlake.schema.tables import TABLES, Table

DECLARED = TABLES["neuron_functions"]
COLUMNS = {
    "keys and ap": ("ap",),
    "keys and seven scores": SCORE_NAMES[:7],
    "all columns": (*SCORE_NAMES, "p_value"),
}
TARGET_BYTES = {"keys and ap": 3.6, "keys and seven scores": 16.0}
TARGET_RATE = 20  # million rows a CPU second
FAMILIES = ("knowledge", "semantic", "task")


def make_labels(generator, *, n_functions, n_instances):
    """Draw labels of functions whose negatives are the rest, .5% to 30% of the instances positive."""
    names = sorted((FAMILIES[number % 3], f"function{number:03}") for number in range(n_functions))
    prevalence = np.exp(generator.uniform(np.log(0.005), np.log(0.3), n_functions))
    dense = generator.random((n_instances, n_functions)) < prevalence
    dense[:2], dense[2:4] = True, False  # each function has both classes
    instance, function = np.nonzero(dense)
    index = LabelIndex.build(
        names,
        is_rest=np.ones(n_functions, dtype=bool),
        half=(np.arange(n_instances) % 2).astype(np.uint8),
        instance=instance,
        function=function.astype(np.int32),
        is_positive=np.ones(len(instance), dtype=np.uint8),
    )
    return index, dense.astype(np.float32)


def make_layer(generator, layer, labels, dense, *, n_neurons):
    """Return the rows of one layer."""
    n_functions = len(labels.functions)
    weights = generator.standard_normal((n_neurons, n_functions)) * (generator.random((n_neurons, n_functions)) < 0.02)
    noise = generator.standard_normal((n_neurons, len(dense)), dtype=np.float32)
    activations = np.maximum(weights.astype(np.float32) @ dense.T + noise - 0.5, 0)
    keys = {"run_id": "0123456789abcdef", "model": "model", "revision": "step1000", "step": 1000}
    keys |= {"stack": "encoder", "layer": layer}
    return neuron_function_rows(keys, score(activations, labels).rounded(), labels.functions)


def make_parts(arguments):
    """Yield the rows, in parts as ingestion cuts them."""
    generator = np.random.default_rng(0)
    labels, dense = make_labels(generator, n_functions=arguments.functions, n_instances=arguments.instances)
    per_part = max(1, PART_ROWS // (arguments.neurons * arguments.functions))
    for first in range(0, arguments.layers, per_part):
        layers = range(first, min(first + per_part, arguments.layers))
        yield pa.concat_tables(
            make_layer(generator, layer, labels, dense, n_neurons=arguments.neurons) for layer in layers
        )


def select(data, scores):
    """Return the declaration and the rows with these scores only, keys before them."""
    columns = [column for column in DECLARED.columns if column.name in scores or not column.type.startswith("float")]
    declared = Table(DECLARED.name, DECLARED.grain, DECLARED.description, tuple(columns))
    return declared, data.select(list(declared.column_names))


def cpu(function, *arguments, **options):
    """Return CPU seconds of a call."""
    start = time.process_time()
    function(*arguments, **options)
    return time.process_time() - start


def measure(arguments, folder):
    """Write everything; return rows written, and bytes and CPU seconds by what they are of."""
    n_rows, sizes, seconds = 0, {}, {}

    def add(kind, what, value):
        kind[what] = kind.get(what, 0) + value

    with Store(folder / "store").job("0123456789abcdef", kind="run") as job:
        for number, part in enumerate(make_parts(arguments)):
            n_rows += part.num_rows
            for name, scores in COLUMNS.items():
                declared, data = select(part, scores)
                ours, default = folder / "ours.parquet", folder / "default.parquet"
                add(seconds, ("check", name), cpu(check, declared, data))
                add(seconds, ("write", name), cpu(parquet.write, declared, data, ours, metadata={}))
                add(seconds, ("default", name), cpu(pq.write_table, data, default))
                add(sizes, ("ours", name), ours.stat().st_size)
                add(sizes, ("default", name), default.stat().st_size)
            job_seconds = cpu(job.write, "neuron_functions", part, part=number, model="model", revision="step1000")
            add(seconds, "job", job_seconds)
            if number == 0:
                n_layer = arguments.neurons * arguments.functions
                for name, scores in COLUMNS.items():
                    frame = select(part.slice(0, n_layer), scores)[1].to_pandas(strings_to_categorical=False)
                    csv, pickle = folder / "frame.csv.gz", folder / "frame.pickle"
                    frame.to_csv(csv, index=False)
                    frame.to_pickle(pickle)
                    sizes["csv", name] = csv.stat().st_size / n_layer
                    sizes["pickle", name] = pickle.stat().st_size / n_layer
    return n_rows, sizes, seconds


def main():
    """Print the tables."""
    parser = command_line(__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--neurons", type=int, default=3072, help="neurons a layer")
    parser.add_argument("--functions", type=int, default=200)
    parser.add_argument("--instances", type=int, default=2000, help="instances behind the simulated scores")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        n_rows, sizes, seconds = measure(arguments, Path(folder))
    rows = []
    for name in COLUMNS:
        ours = sizes["ours", name] / n_rows
        target = TARGET_BYTES.get(name)
        rows.append(
            [
                name,
                f"{ours:.2f}",
                f"{sizes['default', name] / n_rows:.2f}",
                f"{sizes['csv', name]:.1f}",
                f"{sizes['pickle', name]:.1f}",
                f"≤ {target:g}: {'met' if ours <= target else 'missed'}" if target else "",
            ]
        )
    header = ["bytes a row", "ours", "pyarrow's defaults", "CSV, gzip", "pickled DataFrame", "target"]
    print_table(f"Bytes a row of neuron_functions, {n_rows:,} rows", header, rows)
    rows = []
    for name in COLUMNS:
        check_s, write_s = seconds["check", name], seconds["write", name]
        rate = n_rows / 1e6 / (check_s + write_s)
        rows.append(
            [
                name,
                f"{n_rows / 1e6 / check_s:.1f}",
                f"{n_rows / 1e6 / write_s:.1f}",
                f"{rate:.1f}",
                f"{n_rows / 1e6 / seconds['job']:.1f}" if name == "all columns" else "",
                f"{n_rows / 1e6 / seconds['default', name]:.1f}",
                f"≥ {TARGET_RATE}: {'met' if rate >= TARGET_RATE else 'missed'}",
            ]
        )
    header = ["M rows a CPU s", "check", "write", "both", "through Job.write", "pyarrow's defaults", "target, both"]
    print_table("Writing neuron_functions", header, rows)


if __name__ == "__main__":
    main()
