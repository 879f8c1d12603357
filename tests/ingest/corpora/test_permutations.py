"""Permutations that keep labels of a unit together: each label is given once, none stays with its unit."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlake.ingest.corpora.control_tasks import Permutations


def permute(unit, stratum=None, *, seed=0, **how):
    """Return permutations after drawing one of all instances, and the place that each label came from."""
    unit = np.asarray(unit)
    stratum = np.zeros(len(unit), np.int64) if stratum is None else np.asarray(stratum)
    permutations = Permutations(np.random.PCG64(seed), unit, stratum, **how)
    return permutations, np.argsort(permutations.draw(np.arange(len(unit))))


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 2)), min_size=1, max_size=80), st.integers(0, 9))
def test_every_label_is_given_once_within_its_stratum_and_only_a_majority_keeps_some(instances, seed):
    unit, stratum = np.array(instances).T
    permutations, source = permute(unit, stratum, seed=seed, is_ordered=bool(seed % 2))
    assert sorted(source) == list(range(len(unit)))
    assert (stratum[source] == stratum).all()
    n_kept = sum(
        max(0, 2 * max(Counter(unit[stratum == code].tolist()).values()) - int((stratum == code).sum()))
        for code in set(stratum.tolist())
    )
    assert (permutations.n_kept, permutations.n_drawn) == (int((unit[source] == unit).sum()), len(unit))
    assert permutations.n_kept == n_kept


@pytest.mark.parametrize("is_ordered", [True, False])
def test_units_of_one_size_take_all_of_one_other(is_ordered):
    unit = np.concatenate([np.repeat(np.arange(30), 3), np.repeat(np.arange(30, 60), 7)])
    _, source = permute(unit, is_ordered=is_ordered)
    donors = [set(unit[source][unit == code].tolist()) for code in range(60)]
    assert all(len(donor) == 1 for donor in donors)
    assert len(set().union(*donors)) == 60
    assert [max(donor) < 30 for donor in donors] == [True] * 30 + [False] * 30
    steps = [np.diff(source[unit == code], append=source[unit == code][0]) for code in range(60)]
    in_order = all(sorted(step.tolist())[1:] == [1] * (len(step) - 1) for step in steps)  # one step is back
    assert in_order == is_ordered


def test_units_of_like_size_take_of_few_and_of_their_like():
    size = np.array([*range(90, 130), *range(10, 30)])
    unit = np.repeat(np.arange(60), size)
    _, source = permute(unit)
    for code in range(60):
        donors = Counter(unit[source][unit == code].tolist())
        assert len(donors) <= 3
        assert all(0.4 < size[donor] / size[code] < 2.5 for donor in donors)


def test_a_unit_far_larger_than_all_others_gives_to_many_and_takes_from_many():
    unit = np.repeat(np.arange(101), [400, *[8] * 100])
    permutations, source = permute(unit)
    assert permutations.n_kept == 0
    donors = Counter(unit[source][unit == 0].tolist())
    assert donors == dict.fromkeys(donors, 8)
    assert len(donors) == 50


def test_labels_that_keep_their_order_begin_anywhere():
    unit, place = np.repeat(np.arange(400), 5), np.tile(np.arange(5), 400)
    _, source = permute(unit)
    counts = np.bincount(5 * place + place[source])
    assert (abs(counts - 80) < 32).all()  # standard deviation 8


def test_donors_are_uniform_over_seeds():
    unit = np.repeat(np.arange(10), 2)
    donors = Counter(int(unit[permute(unit, seed=seed)[1]][0]) for seed in range(900))
    assert 0 not in donors
    assert all(60 < donors[code] < 145 for code in range(1, 10))  # 100 expected, standard deviation 9.4


def test_a_seed_gives_the_same_permutation_everywhere():
    _, source = permute([0, 0, 1, 1, 2, 2, 2, 3], seed=1)
    assert source.tolist() == [2, 3, 4, 5, 7, 0, 1, 6]
