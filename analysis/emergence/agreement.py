"""How much two partitions of the same neurons agree."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix


def agreement(a: NDArray[np.integer], b: NDArray[np.integer]) -> dict[str, float]:
    """Return the measures of how much two partitions agree, given the expert of each neuron in either. [neurons]."""
    return {
        # Of pairs of neurons (Hubert and Arabie 1985): 0 by chance, 1 if equal
        "adjusted_rand_index": float(adjusted_rand_score(a, b)),
        # Mutual information by the mean of both entropies: 0 to 1, not 0 by chance
        "normalized_mutual_information": float(normalized_mutual_info_score(a, b)),
        "variation_of_information": variation_of_information(a, b),
    }


def variation_of_information(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """Return the variation of information of two partitions (Meila 2007), in nats; arguments are as in `agreement`.

    It is the entropy of either partition given the other, summed. No term of the sum is negative, so that equal
    partitions give exactly 0.
    """
    counts = contingency_matrix(a, b)  # [experts of a, experts of b]
    sizes_a, sizes_b = (counts.sum(axis, keepdims=True) + 0 * counts for axis in (1, 0))
    shared = counts > 0
    terms = np.log(sizes_a[shared] / counts[shared]) + np.log(sizes_b[shared] / counts[shared])
    return float((counts[shared] * terms).sum() / len(a))
