"""Knowledge as sentences: each true fact, and the same subject with a wrong object.

T-REx facts come in LAMA's form: a folder of files ``P<number>.jsonl``, one for each Wikidata property.
"""

import csv
import itertools
import os
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ....errors import IngestError
from ..files import json_objects, texts, visible_files
from ..instance import Instance, Reading, Source, capped


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation between a subject and an object."""

    name: str  # name of the function, such as ``"P36-capital"``
    template: str  # one sentence with ``[X]`` for the subject and ``[Y]`` for the object
    is_symmetric: bool = False  # whether the object stands in the same relation to the subject, as neighbours do

    @property
    def label(self) -> str:
        """The function as ``family/function``."""
        return f"knowledge/{self.name}"

    def sentence(self, subject: str, object_: str) -> str:
        """Return the sentence for a subject and an object."""
        before, _, after = self.template.partition("[X]")
        return before.replace("[Y]", object_) + subject + after.replace("[Y]", object_)


def fact_instances(
    relation: Relation, facts: Sequence[tuple[str, str]], *, cap: int | None, seed: int, reading: Reading
) -> Iterator[Instance]:
    """Yield a true sentence for every fact, a subject and an object, followed by a false one about the same subject.

    The wrong object is drawn, as often as it occurs, from the objects of all `facts`, so that an object by itself says
    as little as possible about truth; never one that the facts state of that subject or that was drawn for it before.
    (Facts are incomplete: a sentence counted as false may still be true.) `cap` facts are drawn with the same seed.
    """
    distinct: dict[tuple[str, str], None] = {}
    excluded: defaultdict[str, set[str]] = defaultdict(set)  # by subject: itself and the objects that are true of it
    for subject, object_ in facts:
        # A symmetric fact counts once, in the direction it is stated first.
        if relation.is_symmetric and (object_, subject) in distinct:
            continue
        distinct[subject, object_] = None
        for name in (subject, object_) if relation.is_symmetric else (subject,):
            excluded[name] |= {subject, object_}
    reading.dropped["fact stated twice"] += len(facts) - len(distinct)
    pool = [object_ for _, object_ in distinct]
    generator = random.Random(f"{seed}/{relation.name}/corrupted")
    drawn = capped(distinct, cap, by=lambda _: relation.name, seed=seed, reading=reading, reason="fact beyond the cap")
    for subject, object_ in drawn:
        if excluded[subject].issuperset(pool):
            reading.dropped["fact without a wrong object to set against it"] += 1
            continue
        wrong = generator.choice(pool)
        while wrong in excluded[subject]:
            wrong = generator.choice(pool)
        excluded[subject].add(wrong)
        if relation.is_symmetric:
            excluded[wrong].add(subject)
        for stated, is_true in ((object_, True), (wrong, False)):
            yield Instance(relation.sentence(subject, stated), {relation.label: is_true}, split_group=subject)


_TABLE = Path(__file__).with_name("trex_relations.tsv").read_text(encoding="utf-8").splitlines()
RELATIONS: Mapping[str, Relation] = {
    row["name"].split("-")[0]: Relation(row["name"], row["sentence"], is_symmetric=row["is_symmetric"] == "yes")
    for row in csv.DictReader(_TABLE, delimiter="\t")
}
"""The relations that have a sentence, by Wikidata property; the sentences are ours, from what the property means."""


def read_trex(
    path: str | os.PathLike[str], *, cap: int | None = None, seed: int = 0, encoding: str | None = None
) -> Source:
    """Return a source with two sentences for each fact of a T-REx folder: the fact, and one with a wrong object.

    Each relation is one function with explicit negatives, such as ``knowledge/P36-capital``; sentences about one
    subject share a half. `fact_instances` says how wrong objects are drawn.

    A fact is a line with ``sub_label`` and ``obj_label``, or ``sub_surface`` and ``obj_surface`` where a label is
    missing (T-REx gives them with each sentence, in ``evidences``). A list of objects, as in KAMEL, is one fact each.
    A fact without subject or object is excluded and counted as a defect.

    Parameters
    ----------
    path
        The folder of the files, or one above it; files may be compressed (``.jsonl.gz``).
    cap, seed
        Most facts of each relation, drawn at random; None for all. The seed is that of wrong objects, too.
    encoding
        Encoding of the files; None to detect it (`read_text`).

    Raises
    ------
    IngestError
        Here, if there is no file of a known relation; while reading, with file and line, if one is malformed.

    Examples
    --------
    >>> [instance.text for instance in neuronlake.read_trex("trex").instances]
    ['The capital of France is the city of Paris.', ...]
    """
    path, reading = Path(path), Reading(encoding=encoding)
    known: defaultdict[str, list[Path]] = defaultdict(list)  # files by property
    for file in visible_files(path, "**/P*", reading):
        name = re.fullmatch(r"(P\d+)\.jsonl(\.gz)?", file.name)
        if name and name[1] in RELATIONS:
            known[name[1]].append(file)
        elif name:
            reading.dropped["file of a relation without a sentence"] += 1
    if not known:
        raise IngestError(f"{path}: no T-REx facts here: no file such as P36.jsonl; relations: {', '.join(RELATIONS)}")

    def instances() -> Iterator[Instance]:
        for name in sorted(known, key=lambda name: int(name[1:])):
            facts = [fact for file in known[name] for fact in _facts(file, reading)]
            reading.index = 0
            yield from fact_instances(RELATIONS[name], facts, cap=cap, seed=seed, reading=reading)

    return Source(
        instances=instances(),
        description="T-REx facts, true against the same subject with a wrong object",
        licence=None,
        origin=f"trex: {path.name}",
        negatives="explicit",
        descriptions={relation.label: relation.template for relation in RELATIONS.values()},
        reading=reading,
    )


def _facts(file: Path, reading: Reading) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    row: Mapping[str, object] = {}
    for row in json_objects(file, reading):
        with reading.located():
            subjects, objects = (_names(row, role, reading) for role in ("sub", "obj"))
        if not (subjects and objects):
            reading.add_defect("fact without a subject or an object")
        facts += itertools.product(subjects, objects)
    if row and not facts:
        problem = f"{file}: no fact has both 'sub_label' and 'obj_label'"
        raise IngestError(f"{problem}; the last line holds: {', '.join(row)}")
    return facts


def _names(row: Mapping[str, object], role: str, reading: Reading) -> list[str]:
    """Return the names of the subject (`role` ``sub``) or the objects (``obj``) of a fact; none if it lacks them."""
    if names := texts(row, f"{role}_label"):
        return names
    evidences = row.get("evidences")
    sentences = [item for item in evidences if isinstance(item, dict)] if isinstance(evidences, list) else []
    names = next(filter(None, (texts(place, f"{role}_surface") for place in (row, *sentences))), [])
    reading.dropped["subject or object without a label, named as its sentence names it"] += bool(names)
    return names
