"""A measured store of two runs, with controls and a partition, and what is made of it."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from sharing import small_stores

from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.jobs.settings import Controls
from neuronlake.schema.store import Store

# Words that no name of a table, function or model holds: where they are, texts are.
SECRET = "qqq"


@pytest.fixture(scope="session")
def model(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("bert")


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Store:
    """Return a store of a tiny model's weights and a random initialisation, on words of 40 texts."""
    import torch

    torch.set_num_threads(1)
    store = Store(tmp_path_factory.mktemp("sharing") / "store")
    draw, names = random.Random(2), [f"{SECRET}{number}" for number in range(30)]
    instances = []
    for _ in range(40):
        start, text = 0, " ".join(draw.sample(names, 4))
        for word in text.split():
            labels = {"f/low": int(word[3:]) < 12, "f/any": draw.random() < 0.4, "g/even": int(word[3:]) % 2 == 0}
            lemma = word.upper()
            instances.append(Instance(text, labels, start, start + len(word), text[::-1], lemma=lemma, stratum="noun"))
            start += len(word) + 1
    build_corpus(Source(instances, "words", "CC0", "test: literals", "rest"), "words", store=store.path)
    for seed in (None, 0):
        ingest_model(str(model), corpus="words", store=store.path, random_init=seed, controls=Controls())
    return store


@pytest.fixture
def laboratory(tmp_path: Path) -> Path:
    """Return a store of a corpus, two runs, and of one its best functions, a partition, and an alignment of that."""
    path = tmp_path / "laboratory"
    small_stores.add_corpus(path)
    small_stores.add_run(path)
    small_stores.add_run(path, small_stores.OTHER_RUN)
    small_stores.add_best(path)
    small_stores.add_partition(path)
    small_stores.add_alignment(path)
    return path


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Return a function that reads all files of a store but work in progress."""

    def read(path: Path) -> dict[str, bytes]:
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        return {name: file.read_bytes() for name, file in files.items() if not name.startswith(".staging/")}

    return read


@pytest.fixture(scope="session")
def make() -> dict[str, Callable[..., None]]:
    """Return the functions that commit a job, by its kind."""
    return {
        "corpus": small_stores.add_corpus,
        "run": small_stores.add_run,
        "best": small_stores.add_best,
        "partition": small_stores.add_partition,
        "alignment": small_stores.add_alignment,
    }
