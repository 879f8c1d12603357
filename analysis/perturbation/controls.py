"""Draws of control neurons: as many as a source has, at random or matched to its own."""

import numpy as np
from numpy.typing import NDArray

from .population import Population

# A matched unit is drawn among so many that are nearest in energy.
_NEAREST = 10


def draw_random(population: Population, rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return some rows of the population, which must be whole units, in random order with each unit together.

    The first n of them are then n neurons at random.
    """
    units, place = np.unique(rows // population.unit_size, return_inverse=True)
    order = np.random.default_rng((seed, 0)).permutation(len(units))
    return rows[np.argsort(order[place], kind="stable")]


def draw_matched(population: Population, ranking: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return, for each ranked neuron, an unranked neuron of the same layer and of similar energy.

    In order of rank, each neuron is matched with one of the ten that are nearest in energy, among the neurons of its
    layer that are neither ranked nor taken. Whole native experts are matched in the same way, by their energy. The
    result is shorter than the ranking if a layer has no neuron left.
    """
    generator = np.random.default_rng((seed, 1))
    size = population.unit_size
    layer = population.layer[::size]
    energy = np.add.reduceat(population.energy, np.arange(0, len(population), size))
    ranked_units = list(dict.fromkeys((ranking // size).tolist()))
    # By layer, its free units sorted by energy; a unit that is taken is cut out.
    free: dict[int, NDArray[np.int64]] = {}
    for number in np.unique(layer[ranked_units]).tolist():
        units = np.setdiff1d(np.flatnonzero(layer == number), ranked_units)
        free[number] = units[np.argsort(energy[units], kind="stable")]
    matched: list[int] = []
    for unit in ranked_units:
        candidates = free[int(layer[unit])]
        if not len(candidates):
            break
        middle = int(np.searchsorted(energy[candidates], energy[unit]))
        low = max(0, min(middle - _NEAREST // 2, len(candidates) - _NEAREST))
        place = low + int(generator.integers(len(candidates[low : low + _NEAREST])))
        matched.append(int(candidates[place]))
        free[int(layer[unit])] = np.delete(candidates, place)
    return (np.array(matched, dtype=np.int64)[:, None] * size + np.arange(size)).reshape(-1)
