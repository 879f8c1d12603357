"""A generated store of many checkpoints, for the benchmarks of queries: scores, what comes first by them, and runs.

``python generated_store.py STORE --checkpoints 50`` writes the store that docs/benchmarks.md speaks of.
"""

import argparse
import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from neuronlake.ingest.jobs.sinks import PART_ROWS, neuron_function_rows
from neuronlake.ingest.neurons.feed_forwards import FeedForward, Layer, Place
from neuronlake.ingest.scores.best import SCORE_NAMES, Chance, Ranked
from neuronlake.ingest.scores.scoring import Scores
from neuronlake.schema.conformance import conform
from neuronlake.schema.store import Store

N_LAYERS = 12
FAMILIES = ("knowledge", "semantic", "task")
MODEL = "generated"
N_HALF = 1000  # instances of a half


def make_template(generator, n_neurons, prevalence):
    """Draw scores that rise above chance a little everywhere and a lot in some cells. [neurons, functions, 9]."""
    shape = (n_neurons, len(prevalence))
    rise = np.abs(generator.normal(0, 0.01, shape)) + generator.exponential(0.1, shape) * (
        generator.random(shape) < 0.03
    )
    rise = np.minimum(rise, 0.8).astype(np.float32)
    template = np.empty((*shape, len(SCORE_NAMES)), dtype=np.float32)
    for index, name in enumerate(SCORE_NAMES):
        noise = generator.normal(0, 0.01, shape).astype(np.float32)
        if "complement" in name:
            template[:, :, index] = 1 - prevalence + prevalence * rise / 4 + noise
        elif name.startswith("ap"):
            template[:, :, index] = prevalence + (1 - prevalence) * rise + noise * prevalence
        else:
            template[:, :, index] = 0.5 + rise / 2 + noise
    return template


def run_row():
    """Return the row of ``runs`` but for its keys."""
    texts = dict.fromkeys(("weights_sha256", "corpus_sha256", "device", "neuronlake_version"), "none")
    versions = dict.fromkeys(("torch_version", "transformers_version", "python_version"), "none")
    counts = dict.fromkeys(("n_texts", "n_instances"), 2 * N_HALF) | dict.fromkeys(("n_truncated", "n_dropped"), 0)
    return {
        **texts,
        **versions,
        **counts,
        "measurement": "measured",
        "is_random_init": False,
        "corpus": "generated",
        "site": "activation",
        "pooling": "max",
        "dtype": "float32",
        "storage": "float32",
        "max_tokens": 512,
        "n_tokens": 0,
        "started_at": datetime.datetime.now(datetime.UTC),
        "duration_s": 0.0,
    }


def neuron_rows(keys, dead):
    """Return the rows of ``neurons`` for one layer, the neurons that are dead the same value on all instances."""
    values = {"neuron": np.arange(len(dead), dtype=np.int32), "max": (~dead).astype(np.float32)}
    others = ("mean", "std", "min", "firing_rate", "input_norm", "output_norm")
    return conform("neurons", values | dict.fromkeys(others, np.zeros(len(dead), np.float32)), **keys)


def p_values(scores, prevalence):
    """Return p values that fall with the lift, to 11 bits as stored ones and 1e-6 at least. [neurons, functions]."""
    ap, ap_complement = (scores[:, :, SCORE_NAMES.index(name)] for name in ("ap", "ap_complement"))
    lift = np.maximum(ap - prevalence, ap_complement - (1 - prevalence)) / np.maximum(prevalence, 1 - prevalence)
    p = np.clip(10.0 ** (-20 * lift), 1e-6, 1).astype(np.float32)
    return (p.view(np.uint32) & 0xFFFFF000).view(np.float32)


def generate(store, arguments, dead=0.0, *, lists=True):
    """Commit the checkpoints: one template, its neurons in another place and nearer to chance in each.

    In each a share of the neurons is `dead`: the first of a layer, and more by the last checkpoint. With `lists`, as in
    a store of today, ``neuron_best`` and ``function_top_neurons`` are written too.
    """
    generator = np.random.default_rng(0)
    names = sorted((FAMILIES[number % 3], f"function{number:03}") for number in range(arguments.functions))
    positive = np.exp(generator.uniform(np.log(5), np.log(N_HALF / 2), len(names))).astype(np.int64)
    prevalence = (positive / N_HALF).astype(np.float32)
    width = arguments.neurons // N_LAYERS
    template = make_template(generator, arguments.neurons, prevalence)
    chance = np.full(template.shape[1:], 0.5, dtype=np.float32)
    for index, name in enumerate(SCORE_NAMES):
        if name.startswith("ap"):
            chance[:, index] = 1 - prevalence if "complement" in name else prevalence
    functions = [
        {
            "family": family,
            "function": function,
            "n_positive": 2 * count,
            "n_negative": 2 * (N_HALF - count),
            "prevalence": count / N_HALF,
            **{f"n_positive_half_{half}": count for half in "ab"},
            **{f"n_negative_half_{half}": N_HALF - count for half in "ab"},
        }
        for (family, function), count in zip(names, positive.tolist(), strict=True)
    ]
    every = [
        Layer("encoder", layer, (FeedForward(Place(f"layer.{layer}"), width, "relu", False),))
        for layer in range(N_LAYERS)
    ]
    layers = [
        {
            "stack": "encoder",
            "layer": layer.layer,
            "n_neurons": width,
            "activation_function": "relu",
            "is_gated": False,
            "module_path": layer.feed_forwards[0].path,
        }
        for layer in every
    ]
    per_part = max(1, PART_ROWS // (width * len(names)))
    parts = [every[first : first + per_part] for first in range(0, N_LAYERS, per_part)]
    counts = np.stack([2 * positive, positive, positive]), np.array([[2 * N_HALF], [N_HALF], [N_HALF]])
    chances = Chance.of(counts[0], np.broadcast_to(counts[1], counts[0].shape))
    for checkpoint in range(arguments.checkpoints):
        run_id, where = f"{checkpoint:016x}", {"model": MODEL, "revision": f"step{1000 * checkpoint}"}
        keys = {"run_id": run_id, **where, "step": 1000 * checkpoint}
        if store.commit(run_id):
            continue
        shift, growth = 977 * checkpoint, np.float32(1 - 0.9 * np.exp(-checkpoint / 5))
        with store.job(run_id, kind="run") as job:
            for number, part in enumerate(parts):
                rows = {name: [] for name in ("neuron_functions", "neuron_best", "function_top_neurons", "neurons")}
                is_dead = np.arange(width) < width * dead * (checkpoint + 1) / arguments.checkpoints
                for layer in part:
                    scores = np.take(template, np.arange(width) + layer.layer * width + shift, axis=0, mode="wrap")
                    scores = chance + growth * (scores - chance)
                    scores[is_dead] = chance
                    layer_keys = keys | {"stack": layer.stack, "layer": layer.layer}
                    p_value = p_values(scores, prevalence)
                    rows["neuron_functions"].append(
                        neuron_function_rows(layer_keys, Scores(scores, p_value, *[None] * 4), names)
                    )
                    ranked = Ranked(names, scores, p_value, chances)
                    rows["neuron_best"].append(conform("neuron_best", ranked.best(), **layer_keys))
                    rows["function_top_neurons"].append(conform("function_top_neurons", ranked.top(), **layer_keys))
                    rows["neurons"].append(neuron_rows(layer_keys, is_dead))
                for name, tables in rows.items():
                    if lists or name not in ("neuron_best", "function_top_neurons"):
                        job.write(name, pa.concat_tables(tables), part=number, **where)
            for name, rows in (("runs", [run_row()]), ("layers", layers), ("run_functions", functions)):
                job.write(name, conform(name, rows, **keys), **where)
            job.commit()


def add_arguments(parser):
    """Add the options that say how large the store is."""
    parser.add_argument("--checkpoints", type=int, default=10, help="50 take about 11 GB of disk")
    parser.add_argument("--neurons", type=int, default=36_864, help="neurons a checkpoint, over 12 layers")
    parser.add_argument("--functions", type=int, default=200)


def main():
    """Write the store, or the checkpoints that it lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    add_arguments(parser)
    arguments = parser.parse_args()
    generate(Store(arguments.store), arguments)


if __name__ == "__main__":
    main()
