"""What the tests of readers and builder share."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from neuronlake.ingest.corpora.builder import CorpusReport, build_corpus
from neuronlake.ingest.corpora.instance import Instance, Negatives, Source
from neuronlake.schema.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def rows() -> Callable[[Store, str], list[dict]]:
    """Return a function that reads all committed rows of a table, without the corpus's name."""

    def read(store: Store, table: str) -> list[dict]:
        found = [row for path in store.files(table) for row in pq.read_table(path, partitioning=None).to_pylist()]
        return [{name: value for name, value in row.items() if name != "corpus"} for row in found]

    return read


@pytest.fixture
def source() -> Callable[..., Source]:
    def make(instances: Iterable[Instance], negatives: Negatives = "rest", **fields: object) -> Source:
        return Source(
            instances=instances,
            description="a test",
            licence=None,
            origin="test: literals",
            negatives=negatives,
            **fields,
        )

    return make


@pytest.fixture
def built(store: Store) -> Callable[[Source], CorpusReport]:
    return lambda source: build_corpus(source, "test", store=store.path)
