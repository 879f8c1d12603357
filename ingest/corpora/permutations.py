"""Permutations of labelled instances, under which what shares a text, a group or a word keeps its labels together.

The labels of every instance are given away once, so that all counts stay. Units (texts, groups, words) of like size
make a class: in descending order of size, at least ten, and so many that none holds more than half of the class. Its
units stand in random order, and labels move on by as many instances as the largest of them has. So a unit among others
of its size gives all it has to one of them; where sizes differ, to two or three; and one that is far more frequent than
all others (*be*) gives to many, and takes from them.
"""

import hashlib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Value = TypeVar("_Value", bound=np.generic)
_FEWEST_UNITS = 10  # of a class: fewer would leave little to chance


@dataclass(slots=True)
class Permutations:
    """Permutations that are drawn one after the other, and how many instances they left with labels of their unit."""

    draws: np.random.PCG64
    unit: NDArray[np.int64]  # code of what keeps its labels together [instances]
    stratum: NDArray[np.int64]  # code of what labels do not leave [instances]
    is_plain: bool = False  # whether each instance is a unit, and all are of one stratum
    is_ordered: bool = True  # whether labels of a unit keep their order, the last followed by the first
    n_drawn: int = 0
    n_kept: int = 0

    def draw(self, instance: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each of some instances the place among them that its labels move to [instances]."""
        if self.is_plain:
            return _random_order(len(instance), self.draws)
        stratum = self.stratum[instance]
        pairs = np.stack([stratum, self.unit[instance]])
        (of_unit, _), unit, size = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
        class_of_unit = _classes(of_unit, size)
        largest = np.zeros(class_of_unit.max() + 1, np.int64)
        np.maximum.at(largest, class_of_unit, size)
        within = _random_order(len(unit), self.draws)
        if self.is_ordered:  # but begins anywhere: labels kept in their places would go by what neurons make of places
            by_unit = np.argsort(unit, kind="stable")
            within[by_unit] = np.arange(len(unit)) - (np.cumsum(size) - size)[unit[by_unit]]
            turn = self.draws.random_raw(len(size)).astype(np.int64) % size
            within = (within + turn[unit]) % size[unit]
        # Instances by class, then by unit in random order: their labels move on within the class.
        order = np.lexsort((within, _random_order(len(size), self.draws)[unit], class_of_unit[unit]))
        in_class = class_of_unit[unit[order]]
        n_in_class = np.bincount(in_class)
        start = (np.cumsum(n_in_class) - n_in_class)[in_class]
        moved = np.empty_like(order)
        moved[order] = order[start + (np.arange(len(order)) - start + largest[in_class]) % n_in_class[in_class]]
        self.n_drawn += len(moved)
        self.n_kept += int((unit == unit[moved]).sum())
        return moved

    def permute(
        self,
        instance: NDArray[np.int64],
        function: NDArray[np.int32],
        is_positive: NDArray[_Value],
        rest: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[_Value]]:
        """Return instance and value of labels that are permuted, given one (instance, function, value) a label.

        Where unlabelled means negative (`rest`, by function), all labels of an instance move together to another. The
        labels of other functions are permuted among the instances that have one, alike if those are the same.
        """
        instance, is_positive, moves = instance.copy(), is_positive.copy(), rest[function]
        if moves.any():
            instance[moves] = self.draw(np.arange(len(self.unit)))[instance[moves]]
        drawn: dict[bytes, NDArray[np.int64]] = {}  # by the instances that a function labels
        stays = np.flatnonzero(~moves)
        stays = stays[np.lexsort((instance[stays], function[stays]))]
        for rows in np.split(stays, np.cumsum(np.bincount(function[stays]))[:-1]):
            if len(rows):
                labelled = hashlib.sha256(instance[rows].tobytes()).digest()
                if labelled not in drawn:
                    drawn[labelled] = self.draw(instance[rows])
                is_positive[rows] = is_positive[rows][drawn[labelled]]
        return instance, is_positive


def _classes(stratum: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class of each unit, given its stratum, in which they are sorted, and its number of instances."""
    order = np.lexsort((-size, stratum))
    stratum, size = stratum[order], size[order]
    before = np.concatenate([[0], np.cumsum(size)])
    starts, first_of_stratum = [0], 0
    for end in [*np.flatnonzero(np.diff(stratum) | np.diff(size)) + 1, len(size)]:
        start = starts[-1]
        is_whole = end - start >= _FEWEST_UNITS and before[end] - before[start] >= 2 * size[start]
        if end == len(size) or stratum[end] != stratum[start]:
            if not is_whole and start > first_of_stratum:
                starts.pop()  # too few are left: they go to the class before
            first_of_stratum = end
        if is_whole or first_of_stratum == end:
            starts.append(end)
    classes = np.empty_like(size)
    classes[order] = np.searchsorted(starts[:-1], np.arange(len(size)), side="right") - 1
    return classes


def _random_order(size: int, draws: np.random.PCG64) -> NDArray[np.int64]:
    """Return a random order of ``range(size)``, the same in every version of numpy.

    numpy keeps the bits of a generator between versions, but not what `Generator.permutation` makes of them.
    """
    return np.argsort(draws.random_raw(size), kind="stable")
