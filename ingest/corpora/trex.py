"""T-REx facts in LAMA's form: a folder of ``P<number>.jsonl`` files, one Wikidata property each."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...errors import IngestError, one_line
from .facts import Relation, fact_instances
from .instance import Instance, Position, Source

__all__ = ["RELATIONS", "read_trex"]

# Sentences are ours, written from what each Wikidata property means.
_RELATIONS = (
    Relation("P17-country", "The country in which [X] is found is [Y]."),
    Relation("P19-place-of-birth", "The birthplace of [X] is [Y]."),
    Relation("P20-place-of-death", "The place where [X] died is [Y]."),
    Relation("P27-citizenship", "[X] holds the citizenship of [Y]."),
    Relation("P30-continent", "The continent on which [X] lies is [Y]."),
    Relation("P31-instance-of", "[X] is an example of the class [Y]."),
    Relation("P36-capital", "The capital of [X] is the city of [Y]."),
    Relation("P37-official-language", "In [X], the official language is [Y]."),
    Relation("P39-position-held", "The office held by [X] was that of [Y]."),
    Relation("P47-shares-border-with", "There is a border between [X] and [Y].", is_symmetric=True),
    Relation("P101-field-of-work", "[X] is known for work in the field of [Y]."),
    Relation("P103-native-language", "[X] grew up with [Y] as a first language."),
    Relation("P106-occupation", "The occupation of [X] is [Y]."),
    Relation("P108-employer", "The employer of [X] is [Y]."),
    Relation("P127-owned-by", "The owner of [X] is [Y]."),
    Relation("P131-administrative-territory", "[X] lies within the administrative area of [Y]."),
    Relation("P136-genre", "The genre of [X] is [Y]."),
    Relation("P138-named-after", "The name of [X] comes from [Y]."),
    Relation("P140-religion", "The religion of [X] is [Y]."),
    Relation("P159-headquarters", "[X] has its head office in [Y]."),
    Relation("P176-manufacturer", "The company that makes [X] is [Y]."),
    Relation("P178-developer", "The developer of [X] is [Y]."),
    Relation("P190-sister-city", "[X] and [Y] are sister cities.", is_symmetric=True),
    Relation("P264-record-label", "The record label of [X] is [Y]."),
    Relation("P276-location", "The location of [X] is [Y]."),
    Relation("P279-subclass-of", "Every [X] is a kind of [Y]."),
    Relation("P361-part-of", "[X] forms a part of [Y]."),
    Relation("P364-original-language", "[X] was first made in the [Y] language."),
    Relation("P407-language-of-work", "The language used in [X] is [Y]."),
    Relation("P413-position-on-team", "On the field, the position of [X] is [Y]."),
    Relation("P449-original-broadcaster", "The first network to broadcast [X] was [Y]."),
    Relation("P463-member-of", "[X] is one of the members of [Y]."),
    Relation("P495-country-of-origin", "[X] originally comes from [Y]."),
    Relation("P527-has-part", "One of the parts of [X] is [Y]."),
    Relation("P530-diplomatic-relation", "[X] and [Y] maintain diplomatic relations.", is_symmetric=True),
    Relation("P740-place-of-formation", "The place where [X] was founded is [Y]."),
    Relation("P937-place-of-work", "The place where [X] worked is [Y]."),
    Relation("P1001-jurisdiction", "The authority of [X] applies to [Y]."),
    Relation("P1303-instrument", "The instrument that [X] plays is the [Y]."),
    Relation("P1376-capital-of", "[X] serves as the capital of [Y]."),
    Relation("P1412-languages-spoken", "A language that [X] speaks and writes is [Y]."),
)

RELATIONS: Mapping[str, Relation] = {relation.name.split("-")[0]: relation for relation in _RELATIONS}
"""The relations that have a sentence, by Wikidata property."""

NO_SENTENCE = "file of a relation without a sentence"


def read_trex(path: str | os.PathLike[str], *, cap: int | None = None, seed: int = 0) -> Source:
    """Return the facts of a T-REx folder, about to be read: each true, and with a wrong object.

    One function a relation, such as ``knowledge/P36-capital``, with explicit negatives; texts about one subject share
    a half. See `fact_instances` for how wrong objects are drawn.

    Parameters
    ----------
    path
        The folder, or one above it.
    cap
        How many facts of each relation to use, chosen at random; None for all.
    seed
        Seed of the choice and of the wrong objects.

    Raises
    ------
    IngestError
        Here, if there is no file of a known relation below `path`; while reading, with file and line, if one is not
        as it should be.
    """
    path = Path(path)
    files = sorted(
        (file for file in path.rglob("P*.jsonl") if re.fullmatch(r"P\d+", file.stem)),
        key=lambda file: (int(file.stem[1:]), file),
    )
    known = [file for file in files if file.stem in RELATIONS]
    if not known:
        raise IngestError(f"{path}: no T-REx facts here: no file such as P36.jsonl; relations: {', '.join(RELATIONS)}")
    position = Position(unit="line")
    dropped = Counter({NO_SENTENCE: len(files) - len(known)} if len(files) > len(known) else {})
    return Source(
        instances=_instances(known, position, dropped, cap=cap, seed=seed),
        description="T-REx facts, true against the same subject with a wrong object",
        licence=None,
        origin=f"trex: {path.name}",
        negatives="explicit",
        dropped=dropped,
        descriptions={relation.label: relation.template for relation in _RELATIONS},
        position=position,
    )


def _instances(
    files: Sequence[Path], position: Position, dropped: Counter[str], *, cap: int | None, seed: int
) -> Iterator[Instance]:
    for file in files:
        facts = _facts(file, position)
        position.index = 0
        yield from fact_instances(RELATIONS[file.stem], facts, cap=cap, seed=seed, dropped=dropped)


def _facts(file: Path, position: Position) -> list[tuple[str, str]]:
    position.file = str(file)
    facts = []
    try:
        with file.open("rb") as lines:
            for position.index, line in enumerate(lines, start=1):
                fact = json.loads(line)
                if not isinstance(fact, dict):
                    raise IngestError(f"{position}: not a JSON object")
                for name in ("sub_label", "obj_label"):
                    if not isinstance(fact.get(name), str) or not fact[name].strip():
                        raise IngestError(f"{position}: no {name!r} with text in it; it holds: {', '.join(fact)}")
                facts.append((fact["sub_label"].strip(), fact["obj_label"].strip()))
    except OSError as error:
        raise IngestError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:
        if isinstance(error, IngestError):
            raise
        raise IngestError(f"{position}: not valid JSON: {one_line(error)}") from error
    return facts
