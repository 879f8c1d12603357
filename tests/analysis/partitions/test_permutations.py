"""Strata hold neurons that are matched; permuting within them keeps what they are matched on."""

import numpy as np

from neuronlake.analysis.partitions.chance import permute_within, strata


def test_strata_cross_quantile_bins_of_norm_with_those_of_firing_rate():
    norm = np.array([1.0, 2.0, 3.0, 4.0] * 2)
    firing_rate = np.array([0.1] * 4 + [0.9] * 4)
    assert strata(norm, firing_rate, n_bins=2).tolist() == [0, 0, 2, 2, 1, 1, 3, 3]


def test_bins_are_of_equal_sizes_where_values_differ():
    generator = np.random.default_rng(0)
    codes = strata(generator.lognormal(size=500), np.zeros(500), n_bins=5)
    assert np.bincount(codes // 5).tolist() == [100] * 5


def test_neurons_that_always_fire_share_a_bin_as_do_those_that_never_do():
    firing_rate = np.array([0.0] * 60 + [0.2, 0.4, 0.5, 0.8] + [1.0] * 36)
    codes = strata(np.ones(100), firing_rate)
    assert len(set(codes[:60])) == len(set(codes[64:])) == 1
    assert codes[0] != codes[64]


def test_one_bin_is_one_stratum():
    generator = np.random.default_rng(0)
    assert set(strata(generator.random(20), generator.random(20), n_bins=1)) == {0}


def test_permuting_keeps_how_many_neurons_of_a_stratum_have_each_label():
    generator = np.random.default_rng(0)
    labels, codes = generator.integers(0, 4, 200), generator.integers(0, 3, 200)
    permuted = permute_within(labels, codes, np.random.default_rng(1))
    assert (permuted != labels).any()
    for code in range(3):
        assert sorted(permuted[codes == code]) == sorted(labels[codes == code])


def test_labels_of_different_strata_are_never_exchanged():
    labels, codes = np.array([5, 6, 5, 6]), np.array([1, 0, 1, 0])
    assert permute_within(labels, codes, np.random.default_rng(0)).tolist() == [5, 6, 5, 6]


def test_every_permutation_within_a_stratum_is_as_likely():
    generator = np.random.default_rng(0)
    draws = [tuple(permute_within(np.array([0, 1, 2, 9]), np.array([7, 7, 7, 2]), generator)) for _ in range(6000)]
    counts = [draws.count((*each, 9)) for each in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))]
    assert sum(counts) == 6000
    assert all(880 < count < 1120 for count in counts)  # 4 standard deviations
