"""What the tests of ingestion share: small corpora, and a recomputation that uses nothing of the package."""

import functools
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.reports import IngestReport
from neuronlake.schema.store import Store

# The words of the tiny models' tokenizers (tests/conftest.py): each of a causal model's texts begins with another
# one, for what stands before any difference between two texts activates equally.
WORDS = (
    *("the", "a", "cat", "dog", "bird", "fish", "sat", "ran", "flew", "swam", "on", "under", "over", "near", "mat"),
    *("tree", "house", "river", "red", "blue", "old", "new", "quick", "lazy", "bank", "money", "water", "light"),
    *("stone", "green", "city", "king", "queen", "song"),
)

# Written out by hand: the down projection of layer i, and which axis of its input is the text's.
DOWN_PROJECTIONS = {
    "bert": "encoder.layer.{}.output.dense",
    "roberta": "encoder.layer.{}.output.dense",
    "llama": "layers.{}.mlp.down_proj",
    "gpt2": "h.{}.mlp.c_proj",
    "t5": "encoder.block.{}.layer.1.DenseReluDense.wo",
    "t5-gated": "encoder.block.{}.layer.1.DenseReluDense.wo",
    "xlnet": "layer.{}.ff.layer_2",
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Run torch on one thread: models this small lose more than they gain on several."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def words() -> list[str]:
    return list(WORDS)


@pytest.fixture(scope="session")
def make_corpus() -> Callable[..., None]:
    """Return a function that writes instances to a store as corpus `name`."""

    def make(store: Store, instances: Sequence[Instance], *, negatives: str = "rest", name: str = "test") -> None:
        source = Source(list(instances), "a test", None, "test: literals", negatives)
        build_corpus(source, name, store=store.path)

    return make


@pytest.fixture(scope="session")
def whole_texts() -> list[Instance]:
    """Return 34 texts with explicit labels: a function on all of them, one on some, one with one positive."""
    draw = random.Random(1)
    instances = []
    for index, text in enumerate(_texts(draw)):
        labels = {"task/animal": any(word in text for word in ("cat", "dog", "bird"))}
        if index % 3:
            labels["task/colour"] = draw.random() < 0.4
        if index > 5:
            labels["knowledge/rare"] = index == 17
        instances.append(Instance(text, labels))
    return instances


@pytest.fixture(scope="session")
def spans() -> list[Instance]:
    """Return, of each of 34 texts, three words as spans, a span within words, and at times the whole text."""
    draw = random.Random(2)
    instances = []
    for index, text in enumerate(_texts(draw)):
        places = [place for place in range(1, len(text)) if text[place - 1] == " "]
        for start in draw.sample(places, 3):
            end = text.find(" ", start)
            end = len(text) if end < 0 else end
            word = text[start:end]
            labels = {"semantic/long": len(word) > 3, "semantic/drawn": draw.random() < 0.3}
            instances.append(Instance(text, labels, start=start, end=end))
        start = draw.randrange(2, len(text) - 3)
        instances.append(Instance(text, {"semantic/long": draw.random() < 0.5}, start=start, end=start + 3))
        if index % 2:
            instances.append(Instance(text, {"task/whole": draw.random() < 0.5}))
    unique = {(instance.text, instance.start, instance.end): instance for instance in instances}
    return list(unique.values())


def _texts(draw: random.Random) -> list[str]:
    texts = []
    for index, first in enumerate(draw.sample(WORDS, len(WORDS))):
        rest = [draw.choice(WORDS) for _ in range(draw.randrange(4, 12))]
        if index % 6 == 0:
            rest.insert(1, "naïve,")
        if index % 7 == 0:
            rest += ["你好", "🙂!"]
        texts.append(" ".join([first, *rest]))
    return texts


@pytest.fixture(scope="session")
def read_rows() -> Callable[..., list[dict]]:
    """Return a function that reads all committed rows of a table."""

    def read(store: Store, table: str, *, job: str | None = None) -> list[dict]:
        paths = store.files(table, job=job)
        return [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]

    return read


@pytest.fixture(scope="session")
def contents(read_rows: Callable[..., list[dict]]) -> Callable[[Store], dict[str, list[dict]]]:
    """Return a function that reads every table of a store, without when and how long."""

    def read(store: Store) -> dict[str, list[dict]]:
        names = ("runs", "layers", "run_functions", "neurons", "neuron_functions", "top_instances", "routing")
        clock = ("started_at", "duration_s")
        return {
            name: [{key: value for key, value in row.items() if key not in clock} for row in read_rows(store, name)]
            for name in names
        }

    return read


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What plain forward hooks see.

    Parameters
    ----------
    activations
        One array a layer. [neurons, instances]
    labels
        Of each function: 1, 0, or -1 for outside. [instances]
    half
        0 for half a. [instances]
    """

    activations: list[np.ndarray]
    labels: dict[tuple[str, str], np.ndarray]
    half: np.ndarray


@pytest.fixture(scope="session")
def recompute() -> Callable[..., Recomputed]:
    """Return a function that measures instances again: one text at a time, no padding, no batches."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    @functools.cache
    def measure(
        folder: Path, kind: str, places: tuple[tuple[str, int | None, int | None], ...], pooling: str
    ) -> list[np.ndarray]:
        """Return the activations of places in texts, [neurons, places] a layer; several tests ask for the same."""
        model = AutoModel.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        n_layers = model.config.num_hidden_layers
        seen: dict[int, np.ndarray] = {}

        def look(layer: int):
            def hook(_, inputs):
                hidden = inputs[0].transpose(0, 1) if kind == "xlnet" else inputs[0]
                seen[layer] = hidden[0].numpy().copy()  # [tokens, neurons]

            return hook

        for layer in range(n_layers):
            model.get_submodule(DOWN_PROJECTIONS[kind].format(layer)).register_forward_pre_hook(look(layer))
        body = model.encoder if kind.startswith("t5") else model
        pooled: list[list[np.ndarray]] = [[] for _ in range(n_layers)]
        for text, first_char, past_end in places:
            encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
            with torch.no_grad():
                body(torch.tensor([encoded["input_ids"]]))
            start, end = (0, len(text)) if first_char is None else (first_char, past_end)
            tokens = [
                index
                for index, (first, last) in enumerate(encoded["offset_mapping"])
                if not encoded["special_tokens_mask"][index] and (first_char is None or (first < end and last > start))
            ]
            for layer in range(n_layers):
                values = seen[layer][tokens]
                pooled[layer].append(
                    {
                        "max": lambda v: v.max(0),
                        "mean": lambda v: v.mean(0),
                        "abs_max": lambda v: abs(v).max(0),
                        "last": lambda v: v[-1],
                    }[pooling](values)
                )
        activations = [np.array(each).T for each in pooled]
        for each in activations:
            each.setflags(write=False)
        return activations

    def run(
        folder: Path, kind: str, store: Store, instances: Sequence[Instance], *, negatives: str, pooling: str = "max"
    ) -> Recomputed:
        places = tuple((instance.text, instance.start, instance.end) for instance in instances)
        names = sorted({tuple(name.split("/", 1)) for instance in instances for name in instance.labels})
        outside = 0 if negatives == "rest" else -1
        labels = {
            name: np.array([int(instance.labels.get("/".join(name), outside)) for instance in instances])
            for name in names
        }
        halves = {
            row["text"]: "ab".index(row["half"])
            for path in store.files("texts")
            for row in pq.read_table(path, partitioning=None).to_pylist()
        }
        half = np.array([halves[instance.text] for instance in instances])
        return Recomputed(measure(folder, kind, places, pooling), labels, half)

    return run


@pytest.fixture(scope="session")
def corpus_of_spans(
    tmp_path_factory: pytest.TempPathFactory, make_corpus: Callable[..., None], spans: list[Instance]
) -> Path:
    folder = tmp_path_factory.mktemp("spans") / "store"
    make_corpus(Store(folder), spans)
    return folder


@pytest.fixture
def filled(store: Store, corpus_of_spans: Path) -> Store:
    shutil.copytree(corpus_of_spans, store.path)
    return store


@pytest.fixture
def ingest(filled: Store, tiny_model: Callable[[str], Path]) -> Callable[..., IngestReport]:
    """Return a function that measures a tiny model on the spans."""

    def run(kind: str = "bert", *, store: Store = filled, **arguments: object) -> IngestReport:
        return ingest_model(str(tiny_model(kind)), corpus="test", store=store.path, **arguments)

    return run


@pytest.fixture(scope="session")
def tree() -> Callable[[Store], dict[str, int]]:
    """Return a function that lists the files of a store that are not work in progress, with when they were written."""

    def files(store: Store) -> dict[str, int]:
        found = {path.relative_to(store.path): path for path in store.path.rglob("*") if path.is_file()}
        return {str(name): path.stat().st_mtime_ns for name, path in found.items() if ".staging" not in name.parts}

    return files
