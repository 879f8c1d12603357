"""How much two partitions of the same neurons agree."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from .tracks import overlap

__all__ = ["Agreement", "agreement", "variation_of_information"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How much two partitions of the same neurons agree.

    Parameters
    ----------
    adjusted_rand_index
        On pairs of neurons (Hubert and Arabie 1985): 0 by chance, 1 if equal.
    normalized_mutual_information
        By the mean of both entropies: 0 to 1, not 0 by chance.
    variation_of_information
        In nats: 0 if equal.
    """

    adjusted_rand_index: float
    normalized_mutual_information: float
    variation_of_information: float


def agreement(a: NDArray[np.integer], b: NDArray[np.integer]) -> Agreement:
    """Return how much two partitions agree.

    Parameters
    ----------
    a, b
        The expert of each neuron in either. [neurons]
    """
    return Agreement(
        float(adjusted_rand_score(a, b)),
        float(normalized_mutual_info_score(a, b)),
        variation_of_information(a, b),
    )


def variation_of_information(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """Return what either partition tells that the other does not (Meila 2007), in nats.

    The sum of both conditional entropies: no term of it is negative, so that of equal partitions it is exactly 0.

    Parameters
    ----------
    a, b
        The expert of each neuron in either. [neurons]
    """
    counts = overlap(a, b)
    of_a, of_b = (counts.sum(axis, keepdims=True) + 0 * counts for axis in (1, 0))
    both = counts > 0
    terms = np.log(of_a[both] / counts[both]) + np.log(of_b[both] / counts[both])
    return float((counts[both] * terms).sum() / len(a))
