"""Small conforming stores, made through the store's own jobs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from neuronlake.queries.database import Database
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
        job.write("runs", _table("runs", 1, run), model=model, revision=revision)
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
        job.write("layers", _table("layers", n_layers, layer), model=model, revision=revision)
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
            job.write("run_functions", _table("run_functions", n_functions, measured), model=model, revision=revision)
        index = np.arange(rows)
        function = index % n_functions
        chance = np.asarray(prevalence)[function]
        values = {
            **keys,
            "stack": "encoder",
            "layer": index // (n_functions * n_neurons),
            "neuron": index // n_functions % n_neurons,
            "family": _encoded([family for family, _ in functions], function),
            "function": _encoded([name for _, name in functions], function),
            "p_value": None,
        }
        for column in TABLES["neuron_functions"].columns:
            if column.type == "float32" and column.name != "p_value":
                above = 1 - chance if "complement" in column.name else chance
                values[column.name] = np.clip(above + generator.normal(0, 0.1, rows), 0.001, 1).astype(np.float32)
        values.update(scores or {})
        job.write("neuron_functions", _table("neuron_functions", rows, values), model=model, revision=revision)
        if dead is not None:
            layer, neuron = np.indices(dead.shape).reshape(2, -1)
            statistics = {**keys, "stack": "encoder", "layer": layer, "neuron": neuron, "max": (~dead).ravel() * 1.0}
            job.write("neurons", _table("neurons", dead.size, statistics), model=model, revision=revision)
        job.commit()


def add_partition(
    store: Store,
    partition_id: str,
    experts: np.ndarray,
    *,
    model: str = "tiny",
    revision: str = "main",
    method: str = "kmeans",
    half: str | None = None,
    run_id: str | None = None,
) -> None:
    """Commit one partition: the expert of each neuron, [layers, neurons], -1 where it has none."""
    layer, neuron = np.nonzero(experts >= 0)
    keys = {"partition_id": partition_id, "model": model, "revision": revision, "step": None}
    partition = {
        **keys,
        "method": method,
        "n_experts": int(experts.max()) + 1,
        "parameters": "{}",
        "run_id": run_id,
        "half": half,
    }
    rows = {**keys, "stack": "encoder", "layer": layer, "neuron": neuron, "expert": experts[layer, neuron]}
    with store.job(partition_id, kind="partition") as job:
        job.write("partitions", _table("partitions", 1, partition))
        job.write("experts", _table("experts", len(layer), rows))
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
                "family": _encoded(list(family), function_of_row),
                "function": _encoded(list(function), function_of_row),
                "n_positive": positive,
                "n_negative": 2000 - positive,
            }
            rows = _table("control_functions", len(draw), drawn)
            job.write("control_functions", rows, part=part, model=model, revision=revision)
            places = np.indices((2, 3, *neurons.shape)).reshape(6, -1)
            lists = {
                **keys,
                "control": control,
                "draw": places[2],
                "stack": "encoder",
                "layer": places[3],
                "family": _encoded(list(family), places[4]),
                "function": _encoded(list(function), places[4]),
                "ranked_by": np.asarray(["lift", "predictivity"])[places[0]].tolist(),
                "half": np.asarray(["all", "a", "b"])[places[1]].tolist(),
                "rank": places[5] + 1,
                "neuron": np.broadcast_to(neurons, (2, 3, *neurons.shape)).ravel() + places[0],
                "ap": 0.5,
            }
            rows = _table("control_top_neurons", places.shape[1], lists)
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
                "family": _encoded(families, of),
                "function": _encoded([function[family.index(each)] for each in families], of),
                "n_functions": 1,
                "ap": np.random.default_rng(part).uniform(0.4, 0.6, len(of)),
                "ap_complement": 0.5,
                "p_value": 0.5,
            }
            job.write("control_best", _table("control_best", len(of), best), part=part, model=model, revision=revision)
        job.commit()


def random_experts(seed: int, n_experts: int, *, n_layers: int = 2, n_neurons: int = 200) -> np.ndarray:
    """Deal neurons to experts of equal sizes, layer by layer. [layers, neurons]."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(n_neurons) * n_experts // n_neurons for _ in range(n_layers)])


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


def _encoded(names: list[str], codes: np.ndarray) -> pa.DictionaryArray:
    distinct = sorted(set(names))
    positions = np.asarray([distinct.index(name) for name in names], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(positions[codes]), pa.array(distinct))


def _table(name: str, rows: int, values: Mapping[str, object]) -> pa.Table:
    """Return a conforming table: a value alone is repeated, what is not given is empty or zero."""
    types = {"string": pa.string(), "bool": pa.bool_(), "timestamp": pa.timestamp("us", tz="UTC")}
    columns = {}
    for column in TABLES[name].columns:
        arrow = types.get(column.type) or getattr(pa, column.type)()
        value = values.get(column.name, {"string": "", "timestamp": 0, "bool": False}.get(column.type, 0))
        if isinstance(value, pa.DictionaryArray):
            columns[column.name] = value
        elif value is None:
            columns[column.name] = pa.nulls(rows, arrow)
        elif isinstance(value, str) and rows > 1:
            codes = pa.array(np.zeros(rows, dtype=np.int32))
            columns[column.name] = pa.DictionaryArray.from_arrays(codes, pa.array([value]))
        elif isinstance(value, np.ndarray | list):
            columns[column.name] = pa.array(value, from_pandas=True).cast(arrow)
        else:
            columns[column.name] = pa.array([value] * rows, arrow)
    return pa.table(columns)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Return a database over an empty store: for macros."""
    return Database(tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store of two checkpoints of one model, and of all that is made of them; do not write to it."""
    store = Store(tmp_path_factory.mktemp("filled") / "store")
    add_run(store, "aaaaaaaaaaaaaaaa", revision="step0", step=0, weights="w0", seed=1)
    add_run(store, "bbbbbbbbbbbbbbbb", revision="step1000", step=1000, weights="w1", seed=2)
    # Experts of 5 neurons in the order of their lift for one function: the first expert holds the two best.
    query = (
        "select row_number() over (partition by layer order by lift desc, neuron) - 1 as place from neuron_scores "
        "where run_id = 'bbbbbbbbbbbbbbbb' and function = 'capital' order by layer, neuron"
    )
    places = Database(store).sql(query).pl()["place"].to_numpy().reshape(2, 200)
    tops = np.random.default_rng(3).integers(0, 50, (2, 2, 5, 1)) * 2 + np.arange(2)
    add_controls(store, "bbbbbbbbbbbbbbbb", {"text": tops, "word": tops + 100}, revision="step1000", step=1000)
    add_partition(store, "1111111111111111", places // 5, revision="step1000", method="function", half="a")
    add_partition(store, "2222222222222222", random_experts(0, 40), revision="step1000", method="random")
    add_partition(store, "3333333333333333", random_experts(1, 40), revision="step0", method="random")
    # The permutation test of one expert and function, on all instances and on either half.
    aligned = {
        "alignment_id": "4444444444444444",
        "run_id": "bbbbbbbbbbbbbbbb",
        "model": "tiny",
        "revision": "step1000",
        "step": 1000,
        "partition_id": "1111111111111111",
        "null_model": "free",
        "half": ["all", "a", "b"],
        "ranking": "lift",
        "stack": "encoder",
        "family": "knowledge",
        "function": "capital",
        "n_neurons": 5,
        "n_top": [2, 2, 1],
        "n_expected": 0.05,
        "p_value": [0.001, 0.001, 0.05],
        "p_nominal": [0.001, 0.001, 0.05],
        "n_permutations": 999,
    }
    with store.job("4444444444444444", kind="alignment") as job:
        job.write("alignments", _table("alignments", 3, aligned))
        job.commit()
    # A study of one source's neurons at one dose, read out on it and on one other function.
    studied = {
        "perturbation_id": "5555555555555555",
        "run_id": "bbbbbbbbbbbbbbbb",
        "model": "tiny",
        "revision": "step1000",
        "step": 1000,
        "selection": "functional",
        "source_family": "knowledge",
        "source_function": "capital",
        "dose": 0.1,
        "target_family": "knowledge",
        "target_function": ["capital", "currency"],
        "control": "random",
        "is_on_target": [True, False],
        "effect": [0.3, 0.1],
        "difference": [0.3, 0.1],
        "p_texts": [0.001, 0.2],
        "p_sets": [0.01, 0.3],
        "selectivity": [0.2, None],
        "selectivity_p_texts": [0.001, None],
        "selectivity_p_sets": [0.02, None],
    }
    with store.job("5555555555555555", kind="perturbation") as job:
        for name, n_rows in (("perturbation_contrasts", 2), ("perturbations", 2)):
            job.write(name, _table(name, n_rows, studied))
        job.write("perturbation_studies", _table("perturbation_studies", 1, studied))
        job.commit()
    _add_series(store)
    _add_emergence_study(store)
    return store


def _add_series(store: Store) -> None:
    """Commit what was listed as the two checkpoints, and their tensors, of which none is as the other's."""
    listed = {"model": "tiny", "revision": ["step0", "step1000"], "step": [0, 1000], "source": "folder"}
    with store.job("checkpoints", kind="checkpoints") as job:
        job.write("checkpoints", _table("checkpoints", 2, listed))
        job.commit()
    weights = {
        "run_id": ["aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "bbbbbbbbbbbbbbbb"],
        "model": "tiny",
        "revision": ["step0", "step0", "step1000", "step1000"],
        "step": [0, 0, 1000, 1000],
        "tensor": ["embedding", "ffn", "embedding", "ffn"],
        "sha256": ["e0", "f0", "e1", "f1"],
        "n_values": [100, 400, 100, 400],
    }
    with store.job("weight_tensors", kind="weights") as job:
        job.write("weight_tensors", _table("weight_tensors", 4, weights))
        job.commit()


def _add_emergence_study(store: Store) -> None:
    """Commit a study of the two checkpoints: in each 40 experts of 5 neurons, followed by index."""
    study = {
        "emergence_id": "6666666666666666",
        "model": "tiny",
        "last_run_id": "bbbbbbbbbbbbbbbb",
        "corpus": "words",
        "method": "function",
        "n_experts": 40,
        "parameters": "{}",
        "n_seeds": 1,
        "n_random": 1,
        "n_checkpoints": 2,
        "last_step": 1000,
    }
    made = {
        **study,
        "role": ["cold", "cold", "random"],
        "revision": ["step0", "step1000", "step1000"],
        "step": [0, 1000, 1000],
        "run_id": ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "bbbbbbbbbbbbbbbb"],
        "partition_id": ["3333333333333333", "1111111111111111", "2222222222222222"],
    }
    change = {
        **study,
        "role": "cold",
        "revision": "step0",
        "step": 0,
        "reference": "last",
        "reference_step": 1000,
        "stack": "encoder",
        "layer": [0, 1],
        "adjusted_rand_index": 0.1,
        "normalized_mutual_information": 0.5,
        "variation_of_information": 3.0,
    }
    index = np.arange(160)
    is_last = index >= 80
    track = {
        **study,
        "role": "cold",
        "revision": _encoded(["step0", "step1000"], is_last.astype(int)),
        "step": np.where(is_last, 1000, 0),
        "run_id": _encoded(["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"], is_last.astype(int)),
        "partition_id": _encoded(["3333333333333333", "1111111111111111"], is_last.astype(int)),
        "stack": "encoder",
        "layer": index // 40 % 2,
        "expert": index % 40,
        "track": index % 40,
        "n_neurons": 5,
        "n_shared_next": np.where(is_last, np.nan, 1),
        "n_shared_last": np.where(is_last, 5, 1),
    }
    with store.job("6666666666666666", kind="emergence") as job:
        job.write("emergence_studies", _table("emergence_studies", 1, study))
        job.write("emergence_partitions", _table("emergence_partitions", 3, made))
        job.write("partition_changes", _table("partition_changes", 2, change))
        job.write("expert_tracks", _table("expert_tracks", 160, track))
        job.commit()


@pytest.fixture
def database(filled: Store) -> Database:
    """Return a database over two checkpoints."""
    return Database(filled)


@pytest.fixture(scope="session")
def run() -> Callable[..., None]:
    """Return the function that adds a run to a store."""
    return add_run


@pytest.fixture(scope="session")
def partition() -> Callable[..., None]:
    """Return the function that adds a partition to a store."""
    return add_partition


@pytest.fixture(scope="session")
def controls() -> Callable[..., None]:
    """Return the function that adds control functions to a run of a store."""
    return add_controls


@pytest.fixture(scope="session")
def planted() -> Callable[..., dict[str, np.ndarray]]:
    """Return the function that makes scores which rank as planted."""
    return rankings


def scan_filters(database: Database, query: str, *columns: str) -> list[str]:
    """Return the filters of each Parquet scan that reads all these columns, empty where there is none."""
    nodes = json.loads(str(database.sql(f"explain (format json) {query}").rows()[0][1]))
    found = []
    while nodes:
        node = nodes.pop()
        nodes += node["children"]
        information = node["extra_info"]
        if information.get("Function") == "READ_PARQUET" and set(columns) <= set(information["Projections"]):
            found.append(str(information.get("Filters", "")).strip("()"))
    return found


@pytest.fixture
def filters() -> Callable[..., list[str]]:
    """Return the function that finds the filters which reach the files."""
    return scan_filters
