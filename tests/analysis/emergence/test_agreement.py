"""Variation of information, by hand and by its definition in entropies."""

import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from neuronlake.analysis.emergence.rows import agreement, variation_of_information


@pytest.mark.parametrize(
    ("a", "b", "nats"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], 0),
        ([0, 0, 0, 0], [0, 0, 1, 1], math.log(2)),
        ([0, 0, 1, 1], [0, 1, 0, 1], 2 * math.log(2)),
        ([0, 0, 0, 0], [0, 1, 2, 3], math.log(4)),
    ],
)
def test_the_variation_of_information_of_small_partitions(a, b, nats):
    assert variation_of_information(np.array(a), np.array(b)) == pytest.approx(nats)


def test_the_variation_of_information_is_both_entropies_less_twice_what_they_share():
    a, b = np.random.default_rng(0).integers(0, 7, (2, 200))
    entropies = mutual_info_score(a, a) + mutual_info_score(b, b)
    assert variation_of_information(a, b) == pytest.approx(entropies - 2 * mutual_info_score(a, b))


def test_equal_partitions_agree_whatever_their_labels():
    found = agreement(np.array([0, 0, 1, 1, 2]), np.array([2, 2, 0, 0, 1]))
    assert (found["adjusted_rand_index"], found["normalized_mutual_information"]) == pytest.approx((1, 1))
    assert found["variation_of_information"] == 0
