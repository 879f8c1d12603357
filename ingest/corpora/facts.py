"""Knowledge as sentences: each true fact, and the same subject with a wrong object."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .instance import Instance, Reading, capped


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
        excluded[subject] |= {subject, object_}
        if relation.is_symmetric:
            excluded[object_] |= {subject, object_}
    reading.dropped["fact stated twice"] += len(facts) - len(distinct)
    pool = [object_ for _, object_ in distinct]
    distinct_objects = set(pool)
    generator = random.Random(f"{seed}/{relation.name}/corrupted")
    drawn = capped(distinct, cap, by=lambda _: relation.name, seed=seed, reading=reading, reason="fact beyond the cap")
    for subject, object_ in drawn:
        if distinct_objects <= excluded[subject]:
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
