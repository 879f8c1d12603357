"""Neurons to perturb in place of a source's: as many, drawn at random, or among those like its own."""

import numpy as np
from numpy.typing import NDArray

from .population import Population

__all__ = ["draw_matched", "draw_random"]

# Of the free neurons of the layer, one is drawn among so many that are nearest in energy.
_NEAREST = 10


def draw_random(population: Population, rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return some neurons in random order: as a ranking, its first n are n neurons drawn at random.

    Parameters
    ----------
    population
        The studied neurons.
    rows
        Those to draw from, whole units. [candidates]
    seed
        Of the draw.
    """
    units, place = np.unique(population.unit[rows], return_inverse=True)
    order = np.random.default_rng((seed, 0)).permutation(len(units))
    return rows[np.argsort(order[place], kind="stable")]


def draw_matched(population: Population, ranking: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return for each ranked neuron another of the same layer and of like energy, none of them ranked.

    Neurons are served in order of rank: of the layer's neurons that are neither ranked nor taken, one of the ten
    nearest in energy. Whole native experts are matched likewise, by their energy.

    Parameters
    ----------
    population
        The studied neurons.
    ranking
        The source's neurons. [ranked]
    seed
        Of the draw.

    Returns
    -------
    matched
        As long as the ranking, or shorter where a layer has no neuron left. [up to ranked]
    """
    generator = np.random.default_rng((seed, 1))
    n_units = int(population.unit[-1]) + 1
    first = np.searchsorted(population.unit, np.arange(n_units + 1))
    layer = population.layer[first[:-1]]
    energy = np.add.reduceat(population.energy, first[:-1])
    ranked_units = list(dict.fromkeys(population.unit[ranking].tolist()))
    is_free = np.ones(n_units, dtype=np.bool_)
    is_free[ranked_units] = False
    # By layer, its units sorted by energy; taken ones are cut out.
    free: dict[int, NDArray[np.int64]] = {}
    for each in np.unique(layer[ranked_units]).tolist():
        units = np.flatnonzero((layer == each) & is_free)
        free[each] = units[np.argsort(energy[units], kind="stable")]
    matched = []
    for unit in ranked_units:
        candidates = free[int(layer[unit])]
        if not len(candidates):
            break
        middle = int(np.searchsorted(energy[candidates], energy[unit]))
        low = max(0, min(middle - _NEAREST // 2, len(candidates) - _NEAREST))
        near = candidates[low : low + _NEAREST]
        place = low + int(generator.integers(len(near)))
        matched.append(np.arange(first[candidates[place]], first[candidates[place] + 1]))
        free[int(layer[unit])] = np.delete(candidates, place)
    return np.concatenate(matched) if matched else np.zeros(0, dtype=np.int64)
