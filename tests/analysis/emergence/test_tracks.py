"""Experts followed over partitions that are written out."""

import numpy as np
import pytest

from neuronlake.analysis.emergence.tracks import follow, overlap, shared_with_track


def test_overlap_counts_the_neurons_of_each_pair_of_experts():
    counts = overlap(np.array([0, 0, 0, 1, 1]), np.array([2, 2, 0, 0, 0]))
    assert counts.tolist() == [[1, 0, 2], [2, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("experts", "tracks"),
    [
        ([[0, 0, 1, 1]], [[0, 1]]),
        ([[0, 0, 1, 1], [0, 0, 1, 1]], [[0, 1], [0, 1]]),
        ([[2, 2, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2]], [[1, 2, 0], [0, 1, 2]]),
        # Two exchanges one after the other: links are followed, labels are not.
        ([[1, 1, 0, 0, 2, 2], [0, 0, 1, 1, 2, 2], [0, 0, 2, 2, 1, 1]], [[2, 0, 1], [0, 2, 1], [0, 1, 2]]),
        # Expert 0 shares most with the later 0, but expert 1 shares nothing else: 2 + 2 neurons stay, not 3.
        ([[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0, 0]], [[1, 0], [0, 1]]),
        # An expert that the last checkpoint does not have is a track of its own.
        ([[0, 1, 1, 2, 2], [0, 0, 0, 1, 1]], [[2, 0, 1], [0, 1]]),
    ],
)  # fmt: skip
def test_experts_are_matched_so_that_most_neurons_stay(experts, tracks):
    assert [each.tolist() for each in follow([np.array(each) for each in experts])] == tracks


def test_neurons_that_stay_in_their_track_are_counted():
    now, later = np.array([1, 1, 1, 0, 0, 0]), np.array([0, 0, 1, 1, 1, 0])
    assert shared_with_track(now, np.array([1, 0]), later, np.array([0, 1])).tolist() == [2, 2]
