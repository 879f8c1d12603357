"""A fair choice of at most so many, the same for the same seed."""

import random
from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["capped"]

Item = TypeVar("Item")


def capped(items: Iterable[Item], cap: int | None, *, by: Callable[[Item], str], seed: int) -> list[Item]:
    """Return at most `cap` items of each class, chosen at random, in the order they came.

    Every item of a class is equally likely to be chosen (reservoir sampling); what is chosen of one class does
    not depend on the others.

    Parameters
    ----------
    items
        The items; read once, and at most `cap` of each class are held at a time.
    cap
        How many of each class to keep; None keeps all.
    by
        The class of an item.
    seed
        Seed of the choice.
    """
    if cap is None:
        return list(items)
    reservoirs: dict[str, list[tuple[int, Item]]] = {}
    generators: dict[str, random.Random] = {}
    n_seen: dict[str, int] = {}
    for index, item in enumerate(items):
        name = by(item)
        if name not in reservoirs:
            reservoirs[name], generators[name], n_seen[name] = [], random.Random(f"{seed}/{name}"), 0
        n_seen[name] += 1
        if len(reservoirs[name]) < cap:
            reservoirs[name].append((index, item))
        else:
            place = generators[name].randrange(n_seen[name])
            if place < cap:
                reservoirs[name][place] = (index, item)
    kept = [entry for reservoir in reservoirs.values() for entry in reservoir]
    return [item for _, item in sorted(kept, key=lambda entry: entry[0])]
