"""What the tests of analyses share: stores with a measured tiny model, models with heads, and rows read back."""

import copy
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
import transformers

from neuronlake.analysis.partitions.job import partition_model
from neuronlake.analysis.partitions.settings import PartitionSettings
from neuronlake.analysis.readouts.readout import Texts, read_texts
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.instance import Instance, Source
from neuronlake.ingest.corpora.stored import StoredCorpus
from neuronlake.ingest.jobs.job import ingest_model
from neuronlake.ingest.models.checkpoint import Checkpoint
from neuronlake.ingest.models.model import load
from neuronlake.schema.store import Store
from neuronlake.schema.tables import table

HEADS = {
    "bert": transformers.AutoModelForMaskedLM,
    "roberta": transformers.AutoModelForMaskedLM,
    "llama": transformers.AutoModelForCausalLM,
    "gpt2": transformers.AutoModelForCausalLM,
    "t5": transformers.AutoModelForSeq2SeqLM,
}
# RoBERTa's mask takes in the space before it.
MASKS = {"bert": "[MASK]", "roberta": transformers.AddedToken("<mask>", lstrip=True, normalized=False)}
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


@pytest.fixture(scope="session")
def built() -> Callable[..., transformers.PreTrainedModel]:
    """Return a function from a class and a configuration to a model in memory, with wide random weights."""

    def make(class_: type, config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = class_(copy.deepcopy(config)).eval()
            for name, each in model.named_parameters():
                if "norm" not in name.lower():
                    torch.nn.init.normal_(each, std=0.2)
        return model

    return make


@pytest.fixture(scope="session")
def headed(tiny_model, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function from a tiny model's kind to a folder with one that has a language-model head."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model(kind))
            if kind in MASKS:
                tokenizer.add_special_tokens({"mask_token": MASKS[kind]})
            config = transformers.AutoConfig.from_pretrained(tiny_model(kind))
            config.vocab_size = len(tokenizer)
            with torch.random.fork_rng():
                torch.manual_seed(3)
                model = HEADS[kind].from_config(config)
            made[kind] = tmp_path_factory.mktemp("headed") / f"headed-{kind}"
            model.save_pretrained(made[kind])
            tokenizer.save_pretrained(made[kind])
        return made[kind]

    return make


@pytest.fixture
def texts_for(tmp_path) -> Callable[..., Texts]:
    """Return a function from a model's folder and instances to what a readout is made from."""

    def make(
        folder: Path, instances: Sequence[Instance], *, name: str = "test", with_head: bool = True, **settings
    ) -> Texts:
        store = tmp_path / "store"
        build_corpus(Source(list(instances), "a test", None, "test: literals", "rest"), name, store=store)
        model = load(Checkpoint(str(folder)), with_head=with_head, with_decoder=settings.pop("with_decoder", False))
        defaults = {"n_texts": 1000, "max_tokens": 40, "batch_tokens": 100, "of_equal_lengths": False, "seed": 0}
        return read_texts(model, StoredCorpus(Store(store), name), **(defaults | settings))

    return make
