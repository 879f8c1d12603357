"""The tests of a layer's experts, against what can be computed exactly in another way."""

from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from neuronlake.analysis.alignment.layer_tests import layer_test

N_PERMUTATIONS = 20_000
# Experts of 3, 7 and 10 neurons; lists of 6, 1, 20 and no neurons.
LABELS = np.asarray([0, 2, 1, 2, 0, 1, 1, 2, 2, 1, 2, 1, 0, 2, 2, 1, 2, 2, 1, 2], dtype=np.int32)
LISTS = np.stack([np.isin(np.arange(20), each) for each in ([0, 4, 12, 1, 2, 9], [5], range(20), [])], axis=1)
# Strata of 8, 7, 4 and 1 neurons.
STRATA = np.asarray([0, 3, 0, 5, 0, 3, 0, 5, 0, 3, 0, 5, 0, 3, 0, 5, 3, 9, 3, 3])


def permutation_test(labels, membership, strata=None, **options):
    """Test all lists by permutation, those of distinct neurons too."""
    return layer_test(labels, membership, strata, is_pooled=np.ones(membership.shape[1], dtype=bool), **options)


def monte_carlo_error(p, n_permutations=N_PERMUTATIONS):
    """Return five standard errors of a p-value by permutation, and its own granularity."""
    return 5 * np.sqrt(p * (1 - p) / n_permutations) + 1 / n_permutations


def all_permutations(labels, membership, strata):
    """Return the entries each expert holds under every permutation within strata. [permutations, experts, lists]."""
    found = []
    for order in permutations(range(len(labels))):
        if (strata[list(order)] == strata).all():
            onehot = np.eye(labels.max() + 1, dtype=int)[labels[list(order)]]
            found.append(onehot.T @ membership)
    return np.stack(found)


def stratified_tail(labels, in_list, strata, expert, at_least):
    """Return P(X >= at_least) of a sum of hypergeometric counts, one a stratum, by convolution."""
    distribution = np.ones(1)
    for code in np.unique(strata):
        inside = strata == code
        drawn = np.arange(in_list[inside].sum() + 1)
        of_stratum = stats.hypergeom.pmf(drawn, inside.sum(), (labels[inside] == expert).sum(), in_list[inside].sum())
        distribution = np.convolve(distribution, of_stratum)
    return distribution[at_least:].sum()


def test_free_permutations_give_the_hypergeometric_tail():
    test = permutation_test(LABELS, LISTS.astype(np.int32), n_permutations=N_PERMUTATIONS)
    sizes, lengths = np.bincount(LABELS)[:, None], LISTS.sum(axis=0)
    assert test.n_top.tolist() == [[3, 0, 3, 0], [2, 1, 7, 0], [1, 0, 10, 0]]
    exact = stats.hypergeom.sf(test.n_top - 1, 20, sizes, lengths)
    assert exact[0, 0] == pytest.approx(20 / 1140)
    assert (np.abs(test.p_value - exact) <= monte_carlo_error(exact)).all()
    assert test.n_expected == pytest.approx(sizes * lengths / 20)


def test_permutations_within_strata_give_convolved_hypergeometric_tails():
    test = permutation_test(LABELS, LISTS.astype(np.int32), STRATA, n_permutations=N_PERMUTATIONS)
    exact = np.asarray(
        [
            [stratified_tail(LABELS, LISTS[:, each], STRATA, expert, test.n_top[expert, each]) for each in range(4)]
            for expert in range(3)
        ]
    )
    assert (np.abs(test.p_value - exact) <= monte_carlo_error(exact)).all()
    # The strata tell: what is rare among all neurons is common among like ones.
    free = permutation_test(LABELS, LISTS.astype(np.int32), n_permutations=N_PERMUTATIONS)
    assert test.p_value[0, 0] > 3 * free.p_value[0, 0]


def test_the_exact_test_is_the_hypergeometric_tail():
    test = layer_test(LABELS, LISTS.astype(np.int32))
    sizes, lengths = np.bincount(LABELS)[:, None], LISTS.sum(axis=0)
    assert test.p_value == pytest.approx(stats.hypergeom.sf(test.n_top - 1, 20, sizes, lengths), rel=1e-12)
    assert test.n_expected == pytest.approx(sizes * lengths / 20)


@pytest.mark.parametrize(("n_neurons", "n_experts"), [(114_688, 2), (524_288, 4)])
def test_the_exact_test_of_layers_whose_least_count_is_too_unlikely_for_a_number(n_neurons, n_experts):
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.arange(n_neurons) % n_experts).astype(np.int32)
    listed = np.zeros((n_neurons, 1), np.int32)
    listed[generator.choice(n_neurons, n_neurons // 100, replace=False)] = 1
    test = layer_test(labels, listed)
    exact = stats.hypergeom.sf(test.n_top - 1, n_neurons, np.bincount(labels)[:, None], n_neurons // 100)
    assert test.p_value == pytest.approx(exact, rel=1e-6)


def test_the_exact_test_within_strata_convolves_their_hypergeometric_distributions():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 12, 600).astype(np.int32)
    strata = generator.integers(0, 9, 600)
    lists = (generator.random((600, 5)) < [0.01, 0.1, 0.5, 0.9, 0]).astype(np.int32)
    lists[:, 1] |= labels == 3
    test = layer_test(labels, lists, strata)
    exact = [
        [stratified_tail(labels, lists[:, each], strata, expert, test.n_top[expert, each]) for each in range(5)]
        for expert in range(12)
    ]
    assert test.p_value == pytest.approx(np.asarray(exact), rel=1e-9, abs=0)
    assert test.p_value[3, 1] < 1e-30


@pytest.mark.parametrize("strata", [(0, 0, 0, 0, 0, 0, 0), (0, 1, 0, 1, 0, 1, 1), (4, 4, 4, 2, 2, 2, 9)])
def test_lists_taken_together_count_with_multiplicity_as_in_all_permutations(strata):
    labels = np.asarray([0, 0, 1, 1, 1, 2, 2], dtype=np.int32)
    together = np.asarray([[3, 0], [1, 1], [0, 0], [2, 0], [0, 1], [1, 0], [0, 4]], dtype=np.int32)
    strata = np.asarray(strata)
    every = all_permutations(labels, together, strata)
    test = permutation_test(labels, together, strata, n_permutations=N_PERMUTATIONS)
    assert test.n_top.tolist() == [[4, 1], [2, 1], [1, 4]]
    exact = (every >= test.n_top).mean(axis=0)
    assert (np.abs(test.p_value - exact) <= monte_carlo_error(exact)).all()
    assert test.n_expected == pytest.approx(every.mean(axis=0))


def test_a_stratum_of_one_neuron_leaves_nothing_to_chance():
    test = permutation_test(LABELS, LISTS.astype(np.int32), np.arange(20), n_permutations=99)
    assert (test.p_value == 1).all()
    assert test.n_expected == pytest.approx(test.n_top)


def test_one_expert_holds_every_list_whatever_is_permuted():
    test = permutation_test(np.zeros(20, dtype=np.int32), LISTS.astype(np.int32), n_permutations=99)
    assert test.n_top.tolist() == [[6, 1, 20, 0]]
    assert test.n_expected.tolist() == [[6, 1, 20, 0]]
    assert (test.p_value == 1).all()


def test_no_p_value_is_below_one_of_the_permutations_and_the_observed_one():
    # All ten entries in the expert of ten of 400 neurons: by chance once in 1e20.
    labels = np.repeat(np.arange(40, dtype=np.int32), 10)
    membership = (labels == 7).astype(np.int32)[:, None]
    test = permutation_test(labels, membership, n_permutations=99)
    assert test.p_value[7, 0] == 1 / 100
    assert (np.delete(test.p_value[:, 0], 7) == 1).all()


def test_neurons_on_no_list_count_among_the_neurons_dealt():
    labels = np.asarray([0] * 4 + [1] * 96, dtype=np.int32)
    membership = np.zeros((100, 1), dtype=np.int32)
    membership[0] = 1
    test = permutation_test(labels, membership, n_permutations=N_PERMUTATIONS)
    assert test.p_value[0, 0] == pytest.approx(0.04, abs=monte_carlo_error(0.04))


def test_the_same_seed_gives_the_same_p_values_and_another_seed_others():
    first, again, other = (
        permutation_test(LABELS, LISTS.astype(np.int32), n_permutations=500, seed=seed).p_value for seed in (3, 3, 4)
    )
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_p_values_do_not_depend_on_what_other_threads_permute():
    def test(seed):
        return permutation_test(LABELS, LISTS.astype(np.int32), STRATA, n_permutations=2000, seed=seed).p_value.tolist()

    alone = [test(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(test, range(8))) == alone


def test_a_seed_of_32_bits_is_taken_whole():
    low, high = (
        permutation_test(LABELS, LISTS.astype(np.int32), n_permutations=500, seed=seed).p_value
        for seed in (1, 2**31 + 1)
    )
    assert low.tolist() != high.tolist()


N_NEURONS, N_EXPERTS, N_TOP = 3072, 16, 30


def overlapping_lists(n_lists, scale, generator):
    """Return top lists that share neurons which are often on top, the more the larger the scale. [neurons, lists]."""
    propensity = stats.norm.ppf((np.arange(N_NEURONS) + 0.5) / N_NEURONS)[:, None]
    scores = scale * propensity + generator.gumbel(size=(N_NEURONS, n_lists))
    membership = np.zeros((N_NEURONS, n_lists), dtype=np.int32)
    np.put_along_axis(membership, np.argpartition(-scores, N_TOP, axis=0)[:N_TOP], 1, axis=0)
    return membership


def overlap(membership):
    """Return the share of a list that is on another, mean over pairs."""
    shared = membership.T @ membership
    n_lists = len(shared)
    return (shared.sum() - np.trace(shared)) / (n_lists * (n_lists - 1)) / N_TOP


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("n_lists", "scale", "expected_overlap"), [(100, 1.45, 0.057), (39, 1.74, 0.095)], ids=["100 lists", "39 lists"]
)
def test_random_experts_are_found_functional_as_often_as_said_but_not_by_the_binomial_of_pooled_lists(
    n_lists, scale, expected_overlap
):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(N_EXPERTS, dtype=np.int32), N_NEURONS // N_EXPERTS)
    size = N_NEURONS // N_EXPERTS
    p_values = {"permutation": [], "distinct": [], "binomial": []}
    for trial in range(120):
        if trial % 20 == 0:
            membership = overlapping_lists(n_lists, scale, generator)
            assert overlap(membership) == pytest.approx(expected_overlap, rel=0.15)
            pooled = membership.sum(axis=1, keepdims=True)
        permuted = generator.permutation(labels)
        test = permutation_test(permuted, pooled, n_permutations=999, seed=trial)
        distinct = np.bincount(permuted[pooled[:, 0] > 0], minlength=N_EXPERTS)
        p_values["permutation"].append(test.p_value[:, 0])
        p_values["distinct"].append(stats.hypergeom.sf(distinct - 1, N_NEURONS, size, distinct.sum()))
        p_values["binomial"].append(stats.binom.sf(test.n_top[:, 0] - 1, n_lists * N_TOP, 1 / N_EXPERTS))
    p_values = {name: np.concatenate(each) for name, each in p_values.items()}
    n_tests = 120 * N_EXPERTS
    for level in (0.05, 0.01):
        low, high = stats.binom.ppf([0.001, 0.999], n_tests, level)
        assert low <= np.count_nonzero(p_values["permutation"] <= level) <= high
        # Counts of neurons are coarse, so that their tail is passed less often than said, never more.
        assert 0 < np.count_nonzero(p_values["distinct"] <= level) <= high
    assert 0.05 <= (p_values["binomial"] <= 0.001).mean() <= 0.15
