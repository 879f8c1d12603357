"""Runs with random or planted scores, and their control functions, as jobs commit them."""

from collections.abc import Mapping

import numpy as np
from queries.small_tables import encoded, table

from neuronlake.schema.store import Store
from neuronlake.schema.tables import TABLES

FUNCTIONS = (
    ("knowledge", "capital"),
    ("knowledge", "currency"),
    ("semantic", "bank"),
    ("semantic", "bat"),
    ("task", "sport"),
)
PREVALENCE = (0.5, 0.1, 0.5, 0.3, 0.02)


def add_run(
    store: Store,
    run_id: str,
    *,
    model: str = "tiny",
    revision: str = "main",
    step: int | None = None,
    weights: str = "aa",
    seed: int = 0,
    n_layers: int = 2,
    n_neurons: int = 200,
    functions: tuple[tuple[str, str], ...] = FUNCTIONS,
    prevalence: tuple[float, ...] = PREVALENCE,
    with_prevalence: bool = True,
    scores: Mapping[str, np.ndarray | None] | None = None,
    dead: np.ndarray | None = None,
    **settings: object,
) -> None:
    """Commit one run with random scores, or those given for each (layer, neuron, function) in that order.

    `dead` says which neurons do not vary [layers, neurons]; without it the run has no rows of neurons.
    `settings` are columns of runs with other values than here.
    """
    generator = np.random.default_rng(seed)
    n_functions = len(functions)
    rows = n_layers * n_neurons * n_functions
    keys = {"run_id": run_id, "model": model, "revision": revision, "step": step}
    half = (1000, 0.5)
    with store.job(run_id, kind="run") as job:
        run = {
            **keys,
            "measurement": "measured",
            "weights_sha256": weights,
            "is_random_init": False,
            "corpus": "words",
            "corpus_sha256": "cc",
            "site": "activation",
            "pooling": "max",
            "special_tokens": None,
            "halves": None,
            "min_instances": None,
            "router": None,
            "dtype": "float32",
            "storage": "float32",
            "max_tokens": 128,
            "device": "cpu",
            **settings,
        }
        job.write("runs", table("runs", 1, run), model=model, revision=revision)
        layer = {
            **keys,
            "stack": "encoder",
            "layer": np.arange(n_layers),
            "n_neurons": n_neurons,
            "n_native_experts": None,
            "activation_function": "relu",
            "is_gated": False,
            "module_path": "ffn",
        }
        job.write("layers", table("layers", n_layers, layer), model=model, revision=revision)
        if with_prevalence:
            positive = np.round(np.asarray(prevalence) * half[0]).astype(np.int64)
            measured = {
                **keys,
                "family": [family for family, _ in functions],
                "function": [function for _, function in functions],
                "n_positive": positive * 2,
                "n_negative": (half[0] - positive) * 2,
                "prevalence": np.asarray(prevalence),
                "n_positive_half_a": positive,
                "n_negative_half_a": half[0] - positive,
                "n_positive_half_b": positive,
                "n_negative_half_b": half[0] - positive,
            }
            job.write("run_functions", table("run_functions", n_functions, measured), model=model, revision=revision)
        index = np.arange(rows)
        function = index % n_functions
        chance = np.asarray(prevalence)[function]
        values = {
            **keys,
            "stack": "encoder",
            "layer": index // (n_functions * n_neurons),
            "neuron": index // n_functions % n_neurons,
            "family": encoded([family for family, _ in functions], function),
            "function": encoded([name for _, name in functions], function),
            "p_value": None,
        }
        for column in TABLES["neuron_functions"].columns:
            if column.type == "float32" and column.name != "p_value":
                above = 1 - chance if "complement" in column.name else chance
                values[column.name] = np.clip(above + generator.normal(0, 0.1, rows), 0.001, 1).astype(np.float32)
        values.update(scores or {})
        job.write("neuron_functions", table("neuron_functions", rows, values), model=model, revision=revision)
        if dead is not None:
            layer, neuron = np.indices(dead.shape).reshape(2, -1)
            statistics = {**keys, "stack": "encoder", "layer": layer, "neuron": neuron, "max": (~dead).ravel() * 1.0}
            job.write("neurons", table("neurons", dead.size, statistics), model=model, revision=revision)
        job.commit()


def add_controls(
    store: Store,
    run_id: str,
    tops: Mapping[str, np.ndarray],
    *,
    model: str = "tiny",
    revision: str = "main",
    step: int | None = None,
    functions: tuple[tuple[str, str], ...] = FUNCTIONS,
    prevalence: tuple[float, ...] = PREVALENCE,
) -> None:
    """Commit control functions of a run: by control their top neurons by lift, [draws, layers, functions, top].

    They are the same on all instances and on both halves; by predictivity they are the neurons after them.
    """
    keys = {"run_id": run_id, "model": model, "revision": revision, "step": step}
    family, function = zip(*functions, strict=True)
    with store.job(f"controls-{run_id}", kind="controls") as job:
        for part, (control, neurons) in enumerate(tops.items()):
            draw, function_of_row = np.indices((len(neurons), len(functions))).reshape(2, -1)
            positive = np.round(np.asarray(prevalence) * 2000).astype(np.int64)[function_of_row]
            drawn = {
                **keys,
                "control": control,
                "draw": draw,
                "family": encoded(list(family), function_of_row),
                "function": encoded(list(function), function_of_row),
                "n_positive": positive,
                "n_negative": 2000 - positive,
            }
            rows = table("control_functions", len(draw), drawn)
            job.write("control_functions", rows, part=part, model=model, revision=revision)
            places = np.indices((2, 3, *neurons.shape)).reshape(6, -1)
            lists = {
                **keys,
                "control": control,
                "draw": places[2],
                "stack": "encoder",
                "layer": places[3],
                "family": encoded(list(family), places[4]),
                "function": encoded(list(function), places[4]),
                "ranked_by": np.asarray(["lift", "predictivity"])[places[0]].tolist(),
                "half": np.asarray(["all", "a", "b"])[places[1]].tolist(),
                "rank": places[5] + 1,
                "neuron": np.broadcast_to(neurons, (2, 3, *neurons.shape)).ravel() + places[0],
                "ap": 0.5,
            }
            rows = table("control_top_neurons", places.shape[1], lists)
            job.write("control_top_neurons", rows, part=part, model=model, revision=revision)
            families = sorted(set(family))
            draw, layer, neuron, of = np.indices((len(neurons), neurons.shape[1], 200, len(families))).reshape(4, -1)
            best = {
                **keys,
                "control": control,
                "draw": draw,
                "stack": "encoder",
                "layer": layer,
                "neuron": neuron,
                "family": encoded(families, of),
                "function": encoded([function[family.index(each)] for each in families], of),
                "n_functions": 1,
                "ap": np.random.default_rng(part).uniform(0.4, 0.6, len(of)),
                "ap_complement": 0.5,
                "p_value": 0.5,
            }
            job.write("control_best", table("control_best", len(of), best), part=part, model=model, revision=revision)
        job.commit()


def rankings(whole: np.ndarray, half_a: np.ndarray, half_b: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of a run with these rankings, 0 to 1, [layers, neurons, functions], NaN for NULL.

    That is if the prevalence is .5: the lift is then twice what the average precision is above it. Below 0 they are of
    neurons that detect the complement.
    """
    scores = {}
    for half, values in (("", whole), ("_half_a", half_a), ("_half_b", half_b)):
        scores[f"ap{half}"] = (0.5 + values.ravel() / 2).astype(np.float32)
        scores[f"ap_complement{half}"] = (0.5 - values.ravel() / 2).astype(np.float32)
    return scores
