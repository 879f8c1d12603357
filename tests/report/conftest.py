"""A store with everything that is pictured, in which functions are planted, or labels mean nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from queries.conftest import run  # noqa: F401
from queries.small_partitions import add_partition, random_experts
from queries.small_runs import add_run
from queries.small_tables import encoded, table

from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

MODEL = "tiny"
FAMILIES = ("knowledge", "semantic")
FUNCTIONS = tuple((family, f"{family[0]}{number}") for family in FAMILIES for number in range(8))
LAYERS, NEURONS, TOP, STEPS = 2, 400, 6, (0, 1000, 4000, 16000)
HOSTILE = '</script><script>document.title = "owned"</script><img src=x onerror="document.title = \'owned\'">'


def place_of(function: int) -> int:
    """Return the first of the TOP neurons that a function is planted in: those of a family lie beside each other."""
    return (function // 8) * 100 + (function % 8) * 2


def scores(generator: np.random.Generator, *, strength: float) -> dict[str, Any]:
    """Return lifts of noise on each half, and of `strength` where a function is planted, with p values. [rows]."""
    shape = (LAYERS, NEURONS, len(FUNCTIONS))
    planted = np.zeros(shape)
    for function in range(len(FUNCTIONS)):
        planted[:, place_of(function) : place_of(function) + TOP, function] = strength
    halves = [np.clip(planted + generator.normal(0, 0.12, shape), -0.99, 0.99).ravel() for _ in range(2)]
    whole = sum(halves) / 2
    made: dict[str, Any] = {}
    for name, lift in (("", whole), ("_half_a", halves[0]), ("_half_b", halves[1])):
        made[f"ap{name}"] = (0.5 + lift / 2).astype(np.float32)
        made[f"ap_complement{name}"] = (0.5 - lift / 2).astype(np.float32)
    p = generator.uniform(0.0001, 1, whole.shape)
    made["p_value"] = np.where((planted.ravel() > 0) & (strength > 0.1), 1e-6, p).astype(np.float32)
    return made


def build(folder: Path, *, is_planted: bool, function_name: str | None = None) -> Store:
    """Commit a series, a random initialisation, controls, experts, a perturbation study and routing."""
    store, generator = Store(folder), np.random.default_rng(5)
    functions = tuple((family, function_name if function_name and name == "s0" else name) for family, name in FUNCTIONS)
    shared = {"functions": functions, "prevalence": (0.5,) * len(functions), "n_layers": LAYERS, "n_neurons": NEURONS}
    dead = np.zeros((LAYERS, NEURONS), dtype=bool)
    dead[:, -7:] = True
    runs = {step: f"{step:016x}" for step in STEPS}
    for step in STEPS:
        strength = 0.7 if is_planted and step >= 4000 else 0.0
        made = scores(generator, strength=strength)
        keys = {"model": MODEL, "revision": f"step{step}", "step": step, "weights": f"w{step}"}
        add_run(store, runs[step], scores=made, dead=dead, with_prevalence=False, **keys, **shared)
        _functions(store, functions, runs[step], f"step{step}", step)
    random = {"revision": "random-0", "step": 0, "weights": "r", "is_random_init": True, "with_prevalence": False}
    add_run(store, "f" * 16, model=MODEL, scores=scores(generator, strength=0.0), **random, **shared)
    _functions(store, functions, "f" * 16, "random-0", 0)
    last = {"run_id": runs[16000], "model": MODEL, "revision": "step16000", "step": 16000}
    _corpus(store, functions, last, generator)
    _controls(store, functions, last, generator)
    _experts(store, is_planted=is_planted)
    _perturbation(store, functions, last, is_planted=is_planted)
    _routing(store, functions, last, generator, is_planted=is_planted)
    of_random = {"run_id": "f" * 16, "model": MODEL, "revision": "random-0", "step": 0}
    _routing(store, functions, of_random, np.random.default_rng(6), is_planted=False)
    _stabilities(store, functions, runs, generator, is_planted=is_planted)
    return store


def _commit(store: Store, job: str, kind: str, tables: dict[str, tuple[int, dict[str, Any]]]) -> None:
    with store.job(job, kind=kind) as work:
        for name, (rows, values) in tables.items():
            work.write(name, table(name, rows, values))
        work.commit()


def _functions(store: Store, functions: Any, run_id: str, revision: str, step: int) -> None:
    """Commit the functions of a run, of 2,000 instances that nothing groups."""
    family, function = zip(*functions, strict=True)
    counts = {f"n_{side}_half_{half}": 500 for side in ("positive", "negative") for half in "ab"}
    clusters = dict.fromkeys(f"{of}_pairs" for of in ("text", "group", "word"))
    clusters |= dict.fromkeys(f"n_{of}_clusters" for of in ("text", "group", "word"))
    rows = {
        "run_id": run_id, "model": MODEL, "revision": revision, "step": step, "family": list(family),
        "function": list(function), "n_positive": 1000, "n_negative": 1000, "prevalence": 0.5, **counts, **clusters,
    }  # fmt: skip
    _commit(store, f"functions-{run_id}", "functions", {"run_functions": (len(functions), rows)})


def _named(functions: tuple[tuple[str, str], ...], index: np.ndarray) -> dict[str, Any]:
    return {
        "family": encoded([family for family, _ in functions], index),
        "function": encoded([name for _, name in functions], index),
    }


def _corpus(store: Store, functions: Any, last: dict[str, Any], generator: np.random.Generator) -> None:
    """Commit 64 texts, half of them positive for a function, and each neuron's six top instances."""
    n, of = 64, len(functions)
    texts = [f"{HOSTILE if number % 8 == 0 else 'a text'} number {number}" for number in range(n)]
    instance, function = np.indices((n, of)).reshape(2, -1)
    layer, neuron, rank = np.indices((LAYERS, NEURONS, 6)).reshape(3, -1)
    corpus = {"corpus": "words"}
    family, name = zip(*functions, strict=True)
    _commit(store, "corpus-words", "corpus", {
        "corpora": (1, {**corpus, "n_texts": n, "n_instances": n, "dropped": "{}"}),
        "texts": (n, {**corpus, "text_id": np.arange(n), "text": texts, "half": "a", "split_group": None,
                      "target": None}),
        "instances": (n, {**corpus, "instance_id": np.arange(n), "text_id": np.arange(n), "start_char": None,
                          "end_char": None, "source_id": None, "lemma": None, "stratum": None}),
        "labels": (n * of, {**corpus, "instance_id": instance, **_named(functions, function),
                            "is_positive": ((instance + function) % 2 == 0).tolist()}),
        "functions": (of, {**corpus, "family": list(family), "function": list(name), "n_positive": 32, "n_negative": 32,
                           "prevalence": 0.5, "negatives": "explicit", "description": None}),
    })  # fmt: skip
    tops = {
        **last, **corpus, "stack": "encoder", "layer": layer, "neuron": neuron, "rank": rank + 1,
        "instance_id": (neuron * 7 + rank * 5) % n, "value": 3.0 - rank / 4,
    }  # fmt: skip
    _commit(store, "tops", "tops", {"top_instances": (len(layer), tops)})
    tokens = {
        **last, **corpus, "stack": "encoder", "layer": 0, "neuron": place_of(8), "family": functions[8][0],
        "function": functions[8][1], "is_positive": [True, True, False], "rank": [1, 1, 1], "token": [0, 1, 0],
        "instance_id": [2, 2, 3], "start_char": np.array([0, 2, 0]), "end_char": np.array([1, 6, 1]),
        "activation": [0.5, 2.0, 1.0],
    }  # fmt: skip
    vocabulary = {
        **last, "stack": "encoder", "layer": 0, "neuron": np.arange(NEURONS).repeat(2), "rank": 1,
        "direction": encoded(["writes", "reads"], np.arange(2 * NEURONS) % 2), "is_piece": False,
        "token": encoded(["<b>bank", "river"], np.arange(2 * NEURONS) % 2), "weight": 1.0,
    }  # fmt: skip
    _commit(store, "words", "words", {"top_tokens": (3, tokens), "neuron_vocabulary": (2 * NEURONS, vocabulary)})


def _controls(store: Store, functions: Any, last: dict[str, Any], generator: np.random.Generator) -> None:
    draw, function = np.indices((2, len(functions))).reshape(2, -1)
    listed = {**last, "control": "word", "draw": draw, **_named(functions, function), "n_positive": 1000,
              "n_negative": 1000, "n_kept": 0}  # fmt: skip
    draw, layer, neuron, family = np.indices((2, LAYERS, NEURONS, len(FAMILIES))).reshape(4, -1)
    chosen = family * 8 + generator.integers(0, 8, len(family))
    lift = generator.normal(0.1, 0.08, len(family)).astype(np.float32)
    best = {
        **last, "control": "word", "draw": draw, "stack": "encoder", "layer": layer, "neuron": neuron,
        **_named(functions, chosen), "n_functions": 8, "ap": 0.5 + lift / 2, "ap_complement": 0.5 - lift / 2,
        "p_value": generator.uniform(0.001, 1, len(family)).astype(np.float32),
        "held_out_function": encoded([name for _, name in functions], chosen),
        "held_out_evidence": generator.uniform(0, 4, len(family)).astype(np.float32),
        "held_out_lift": generator.normal(0, 0.1, len(family)).astype(np.float32),
        "second_function": None, "second_ap": None, "second_ap_complement": None, "lift_error": None,
    }  # fmt: skip
    place, list_of = np.indices((len(functions), LAYERS * 2 * 4)).reshape(2, -1)
    tops = {
        **last, "control": "word", "draw": list_of // 4 % 2, "stack": "encoder", "layer": list_of // 8,
        **_named(functions, place), "ranked_by": "lift", "half": "all", "rank": list_of % 4 + 1,
        "neuron": generator.permutation(NEURONS)[np.arange(len(place)) % NEURONS], "ap": 0.6, "ap_complement": 0.4,
    }  # fmt: skip
    _commit(store, "controls", "controls", {
        "control_functions": (2 * len(functions), listed), "control_best": (len(family), best),
        "control_top_neurons": (len(place), tops),
    })  # fmt: skip


def _experts(store: Store, *, is_planted: bool) -> None:
    """Commit experts that hold the neurons of two functions each, and random and matched groups."""
    kinds = {"1" * 16: ("kmeans", None), "2" * 16: ("random", 1), "3" * 16: ("matched", 2)}
    for partition_id, (method, seed) in kinds.items():
        seed = 3 if seed is None and not is_planted else seed
        experts = np.tile(np.arange(NEURONS) // 4, (LAYERS, 1))
        if seed is not None:
            experts = random_experts(seed, NEURONS // 4, n_layers=LAYERS, n_neurons=NEURONS)
        add_partition(store, partition_id, experts, model=MODEL, revision="step16000", method=method)


def _perturbation(store: Store, functions: Any, last: dict[str, Any], *, is_planted: bool) -> None:
    generator = np.random.default_rng(9)
    dose, source, target = np.indices((2, 8, 16)).reshape(3, -1)
    is_own = source + 8 == target
    harm = generator.normal(0, 0.004, len(dose)) + 0.1 * (dose + 1) * is_own * is_planted
    p = np.where(is_own & is_planted, 1e-5, generator.uniform(0.05, 1, len(dose)))
    study = {**last, "perturbation_id": "5" * 16, "selection": "top", "corpus": "words", "kind": "zero",
             "readout": "probe", "metric": "balanced accuracy"}  # fmt: skip
    keys = {
        "source_family": "semantic", "source_function": encoded([name for _, name in functions[8:]], source),
        "target_family": encoded([family for family, _ in functions], target),
        "target_function": encoded([name for _, name in functions], target),
        "dose": np.where(dose, 0.1, 0.05),
    }  # fmt: skip
    contrasts = {
        **study, **keys, "control": "matched", "is_on_target": is_own.tolist(), "is_readable": True, "n_sets": 1,
        "n_control_sets": 5, "control_overlap": 0.0, "control_energy_ratio": 1.0, "effect": harm, "control_effect": 0.0,
        "difference": harm, "difference_low": harm - 0.02, "difference_high": harm + 0.02, "p_texts": p, "p_sets": p,
        "selectivity": np.where(is_own, harm, np.nan), "selectivity_low": np.where(is_own, harm - 0.02, np.nan),
        "selectivity_high": np.where(is_own, harm + 0.02, np.nan), "selectivity_p_texts": np.where(is_own, p, np.nan),
        "selectivity_p_sets": np.where(is_own, p, np.nan),
    }  # fmt: skip
    mean = [harm[is_own & (dose == number)].mean() for number in range(2)]
    probability = 1e-4 if is_planted else 0.4
    means = {
        **study, "dose": [0.05, 0.1], "control": "matched", "n_sources": 8, "difference": mean,
        "difference_low": np.array(mean) - 0.01, "difference_high": np.array(mean) + 0.01,
        "difference_p_texts": probability, "selectivity": mean, "selectivity_low": np.array(mean) - 0.01,
        "selectivity_high": np.array(mean) + 0.01, "selectivity_p_texts": probability,
        "selectivity_p_functions": probability,
    }  # fmt: skip
    cells = {**study, **keys, "seed": 0, "cell_id": "c", "n_neurons": 4, "n_instances": 100}
    _commit(store, "5" * 16, "perturbation", {
        "perturbation_studies": (1, study), "perturbation_contrasts": (len(dose), contrasts),
        "perturbation_means": (2, means), "perturbations": (len(dose), cells),
    })  # fmt: skip


def _routing(store: Store, functions: Any, last: dict[str, Any], generator: Any, *, is_planted: bool) -> None:
    layer, expert, function = np.indices((LAYERS, 8, len(functions))).reshape(3, -1)
    chosen = is_planted * 0.3 * (expert == function % 8)
    share = 0.125 + generator.normal(0, 0.003, len(layer))
    rows = {
        **last, "stack": "encoder", "layer": layer, "native_expert": expert, **_named(functions, function),
        "share_positive": share + chosen, "share_negative": share, "ap": 0.5, "ap_complement": 0.5,
        "auroc": 0.5 + chosen + generator.normal(0, 0.012, len(layer)),
    }  # fmt: skip
    _commit(store, f"routing-{last['run_id']}", "routing", {"routing": (len(layer), rows)})


def _stabilities(store: Store, functions: Any, runs: dict[int, str], generator: Any, *, is_planted: bool) -> None:
    """Commit how alike scores are to those of the last checkpoint, of neurons and experts, which rise if planted."""
    step, partition, layer, function = np.indices((3, 2, LAYERS, len(functions))).reshape(4, -1)
    level = np.array([0.05, 0.5, 0.9])[step] * is_planted
    noise = generator.normal(0, 0.02, len(step))
    partitions = ["*", "1" * 16]
    names = [f"step{each}" for each in STEPS[:3]]
    rows = {
        "run_id": encoded([runs[each] for each in STEPS[:3]], step), "model": MODEL, "revision": encoded(names, step),
        "step": np.array(STEPS)[step], "reference_run_id": runs[16000],
        "partition_id": encoded(partitions, partition), "stack": "encoder", "layer": layer,
        **_named(functions, function), "n_units": np.where(partition, 100, NEURONS - 7), "n_dead": 7,
        "correlation": level + noise, "correlation_half_a": level + noise, "correlation_half_b": level + noise,
        "split_half_correlation": 0.8 * is_planted + noise,
        "reference_split_half_correlation": 0.8 * is_planted + noise,
        "cross_half_correlation": 0.8 * level + noise, "paper_correlation": level + noise,
    }  # fmt: skip
    _commit(store, "stabilities", "stabilities", {"stabilities": (len(step), rows)})


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return Database(build(tmp_path_factory.mktemp("planted") / "store", is_planted=True, function_name=HOSTILE))


@pytest.fixture(scope="session")
def null(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return Database(build(tmp_path_factory.mktemp("null") / "store", is_planted=False))


@pytest.fixture(scope="session")
def page(planted: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from neuronlake.report.page import write_report

    return write_report(planted, tmp_path_factory.mktemp("page") / "report.html")
