"""Facts about countries, from the ``countryinfo`` package (extra ``demo``)."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IngestError
from ..ingest.corpora.files import texts
from ..ingest.corpora.instance import Instance, Reading, Source
from ..ingest.corpora.readers.facts import Relation, fact_instances

if TYPE_CHECKING:
    from countryinfo import CountryInfo

RELATIONS = (
    Relation("capital", "The capital of [X] is [Y]."),
    Relation("region", "On the map of the world, [X] is in [Y]."),
    Relation("subregion", "The part of the world where [X] lies is called [Y]."),
    Relation("currency", "The code of the currency used in [X] is [Y]."),
    Relation("language", "A language spoken by many people in [X] is [Y]."),
    Relation("demonym", "Someone who comes from [X] is called [Y]."),
    Relation("border", "There is a border between [X] and [Y].", is_symmetric=True),
)

# The package gives ISO 639 codes; a sentence needs the name.
_LANGUAGES = dict(
    csv.reader(Path(__file__).with_name("languages.tsv").read_text(encoding="utf-8").splitlines()[1:], delimiter="\t")
)


def read_countries(*, cap: int | None = None, seed: int = 0) -> Source:
    """Return a source with two sentences for each fact about a country: the fact, and one with a wrong object.

    Sentences about one country share a half. Of several languages, currencies or neighbours of a country every one is a
    fact, and none a wrong object of it (`fact_instances`). `cap` and `seed` are as in `read_trex`.
    """
    try:
        from countryinfo import all_countries
    except ImportError as error:
        raise IngestError(
            "country facts come from the package 'countryinfo', which is not installed: pip install 'neuronlake[demo]'"
        ) from error
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
