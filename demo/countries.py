"""Facts about countries, from the ``countryinfo`` package (extra ``demo``)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import IngestError
from ..ingest.corpora.facts import Relation, fact_instances
from ..ingest.corpora.instance import Instance, Reading, Source

if TYPE_CHECKING:
    from countryinfo import CountryInfo

__all__ = ["RELATIONS", "read_countries"]

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
_LANGUAGES: Mapping[str, str] = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "ay": "Aymara", "az": "Azerbaijani", "be": "Belarusian",
    "bg": "Bulgarian", "bi": "Bislama", "bn": "Bengali", "bs": "Bosnian", "ca": "Catalan", "ch": "Chamorro",
    "cnr": "Montenegrin", "cs": "Czech", "da": "Danish", "de": "German", "dv": "Maldivian", "dz": "Dzongkha",
    "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "ff": "Fula", "fi": "Finnish",
    "fj": "Fijian", "fo": "Faroese", "fr": "French", "ga": "Irish", "gn": "Guarani", "gv": "Manx", "he": "Hebrew",
    "hi": "Hindi", "hr": "Croatian", "ht": "Haitian Creole", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kg": "Kongo", "kk": "Kazakh",
    "kl": "Greenlandic", "km": "Khmer", "ko": "Korean", "ku": "Kurdish", "ky": "Kyrgyz", "la": "Latin",
    "lb": "Luxembourgish", "ln": "Lingala", "lo": "Lao", "lt": "Lithuanian", "lu": "Luba-Katanga", "lv": "Latvian",
    "mg": "Malagasy", "mh": "Marshallese", "mi": "Maori", "mk": "Macedonian", "mn": "Mongolian", "ms": "Malay",
    "mt": "Maltese", "my": "Burmese", "na": "Nauruan", "nb": "Norwegian", "nd": "Northern Ndebele", "ne": "Nepali",
    "nl": "Dutch", "nn": "Norwegian", "no": "Norwegian", "nr": "Southern Ndebele", "ny": "Chichewa", "oc": "Occitan",
    "pa": "Punjabi", "pl": "Polish", "ps": "Pashto", "pt": "Portuguese", "qu": "Quechua", "rn": "Kirundi",
    "ro": "Romanian", "ru": "Russian", "rw": "Kinyarwanda", "sg": "Sango", "si": "Sinhala", "sk": "Slovak",
    "sl": "Slovene", "sm": "Samoan", "sn": "Shona", "so": "Somali", "sq": "Albanian", "sr": "Serbian", "ss": "Swazi",
    "st": "Sotho", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "tg": "Tajik", "th": "Thai", "ti": "Tigrinya",
    "tk": "Turkmen", "tn": "Tswana", "to": "Tongan", "tr": "Turkish", "ts": "Tsonga", "uk": "Ukrainian", "ur": "Urdu",
    "uz": "Uzbek", "ve": "Venda", "vi": "Vietnamese", "xh": "Xhosa", "zh": "Chinese", "zu": "Zulu",
}  # fmt: skip

NOT_A_COUNTRY = "territory without an ISO code"
UNKNOWN_LANGUAGE = "language code without a name"


def read_countries(*, cap: int | None = None, seed: int = 0) -> Source:
    """Return a source with two sentences for each fact about a country: the fact, and one with a wrong object.

    There are seven functions with explicit negatives, such as ``knowledge/capital``; sentences about one country
    share a half. `fact_instances` says how wrong objects are drawn. If a country has several languages, currencies
    or neighbours, each is a fact, and none of them is a wrong object of that country.

    Parameters
    ----------
    cap, seed
        As in `read_trex`.

    Raises
    ------
    IngestError
        If the package ``countryinfo`` is not installed.
    """
    try:
        from countryinfo import all_countries
    except ImportError as error:
        raise IngestError(
            "country facts come from the package 'countryinfo', which is not installed: pip install 'neuronlake[demo]'"
        ) from error
    reading = Reading("countryinfo")
    return Source(
        instances=_instances(all_countries(), reading, cap=cap, seed=seed),
        description="facts about countries, true against the same country with a wrong object",
        licence="MIT",
        origin="countries: countryinfo",
        negatives="explicit",
        descriptions={relation.label: relation.template for relation in RELATIONS},
        reading=reading,
    )


def _instances(
    countries: "Sequence[CountryInfo]", reading: Reading, *, cap: int | None, seed: int
) -> Iterator[Instance]:
    with_code = [country for country in countries if country.iso(2)]
    reading.dropped[NOT_A_COUNTRY] += len(countries) - len(with_code)
    objects: Mapping[str, Callable[[CountryInfo], Sequence[str]]] = {
        "capital": lambda country: _strings(country.capital()),
        "region": lambda country: _strings(country.region()),
        "subregion": lambda country: _strings(country.subregion()),
        "currency": lambda country: _strings(country.currencies()),
        "language": lambda country: _languages(_strings(country.languages()), reading),
        "demonym": lambda country: _strings(country.demonym()),
        "border": lambda country: [neighbour.name() for neighbour in country.neighbors() if neighbour.iso(2)],
    }
    for relation in RELATIONS:
        facts = [
            (country.name(), object_)
            for country in with_code
            # A set of languages may name one twice: Norwegian has three codes.
            for object_ in dict.fromkeys(objects[relation.name](country))
        ]
        yield from fact_instances(relation, facts, cap=cap, seed=seed, reading=reading)


def _strings(value: object) -> list[str]:
    """Return the non-empty strings of a field that holds one, several or none."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text.strip()]


def _languages(codes: Sequence[str], reading: Reading) -> list[str]:
    reading.dropped[UNKNOWN_LANGUAGE] += sum(code not in _LANGUAGES for code in codes)
    return [_LANGUAGES[code] for code in codes if code in _LANGUAGES]
