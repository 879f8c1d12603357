"""What the tests of analyses share: stores with a measured tiny model, and rows read back."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

TEXTS = (
    *(
        "the cat sat on the mat",
        "a dog ran over old stone",
        "red bird flew near the tree",
        "quick fish swam under water",
    ),
    *("king and queen sang a song", "money in the city bank", "blue light on the river", "lazy dog near the house"),
    *("new green tree", "old king ran", "fish in cold water", "stone house by the river", "bird song at light"),
    *("queen of the city", "cat on a red mat", "bank of the river"),
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Run torch on one thread: models this small lose more than they gain on several."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def measured(tiny_model, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function from a tiny model's kind to a store that holds a run of it, made once; not to be written."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("measured") / kind
            instances = [
                Instance(text, {"task/animal": index % 3 == 0, "task/water": index % 4 < 2, "semantic/old": index > 9})
                for index, text in enumerate(TEXTS)
            ]
            build_corpus(Source(instances, "a test", None, "test: literals", "rest"), "test", store=folder)
            ingest_model(str(tiny_model(kind)), corpus="test", store=folder)
            made[kind] = folder
        return made[kind]

    return make


@pytest.fixture
def stored(measured, tmp_path) -> Callable[[str], Store]:
    """Return a function from a tiny model's kind to a store of the test's own that holds a run of it."""

    def copy(kind: str) -> Store:
        folder = tmp_path / f"store-{kind}"
        shutil.copytree(measured(kind), folder)
        return Store(folder)

    return copy


@pytest.fixture(scope="session")
def read_rows() -> Callable[..., list[dict]]:
    """Return a function that reads all committed rows of a table, or those of one job."""

    def read(store: Store, table: str, *, job: str | None = None) -> list[dict]:
        paths = store.files(table, job=job)
        return [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]

    return read


@pytest.fixture(scope="session")
def alignments() -> Callable[..., pl.DataFrame]:
    """Return a function that reads a store's alignments that have given keys, sorted by their own."""

    def read(store: Store, **keys: object) -> pl.DataFrame:
        rows = pl.read_parquet(list(store.files("alignments")))
        return rows.filter(**keys).sort(table("alignments").grain)

    return read


class RecordedProgress:
    """Keeps what is reported, in order."""

    def __init__(self):
        self.seen = []

    def phase(self, name, *, total, unit):
        self.seen.append((name, total, unit))

    def advance(self, amount):
        self.seen.append(amount)

    def note(self, text):
        self.seen.append(text)


@pytest.fixture
def recorded_progress() -> RecordedProgress:
    """Return progress that keeps what is reported in `seen`."""
    return RecordedProgress()


@pytest.fixture
def partition(tiny_model):
    """Return a function that partitions a stored tiny model; with method kmeans of weights, loading it."""

    def run(store, kind="bert", *, revision=None, random_init=None, progress=None, **settings):
        chosen = PartitionSettings(**{"n_experts": 4, **settings})
        model = str(tiny_model(kind)) if chosen.reads_weights else f"tiny-{kind}"
        return partition_model(
            model, store=store.path, settings=chosen, revision=revision, random_init=random_init, progress=progress
        )

    return run


@pytest.fixture(scope="session")
def labels() -> Callable[..., dict]:
    """Return a function that reads the expert of each neuron of each layer of a partition, by its report."""

    def read(store, read_rows, report):
        rows = read_rows(store, "experts", job=report.partition_id)
        layers = sorted({(row["stack"], row["layer"]) for row in rows})
        return {key: [row["expert"] for row in rows if (row["stack"], row["layer"]) == key] for key in layers}

    return read
