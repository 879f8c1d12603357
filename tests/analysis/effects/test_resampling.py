"""Resampled texts: effects, their bootstrap and their permutations."""

import itertools

import numpy as np
import pytest

from neuronlake.analysis.effects.resampling import Resampling
from neuronlake.analysis.readouts.readout import summarize
from neuronlake.errors import AnalysisError


def resampling_of(strata, text=None, *, n_bootstrap=1000, n_permutations=1999, seed=0):
    strata = np.asarray(strata, dtype=np.int8)
    text = np.arange(strata.shape[1]) if text is None else np.asarray(text)
    return Resampling(strata, text, n_bootstrap=n_bootstrap, n_permutations=n_permutations, seed=seed)


def effect_itself(effects, sign):
    """Contrast the effect of the first cell on the first function with nothing."""
    return [effects[:, 0, 0]]


def first_less_second(effects, sign):
    return [effects[:, 0, 0] + sign * effects[:, 1, 0]]


def p_of(resampling, *cells, contrast=effect_itself):
    sums = [resampling.reduce(np.atleast_2d(np.asarray(cell, dtype=np.float32))) for cell in cells]
    contributions = np.stack([resampling.contributions(each) for each in sums], axis=1)
    return float(resampling.permutation_test(contributions, contrast)[0])


def test_an_effect_is_the_mean_over_strata_of_the_mean_damage_within():
    resampling = resampling_of([[1, 0, 0, 0, -1], [1, 1, -1, -1, 1]])
    effects = np.asarray([[4, 1, 2, 3, 50], [1, 2, 50, 50, 6]], dtype=np.float32)
    sums = resampling.reduce(effects)
    assert resampling.effects(sums).tolist() == [pytest.approx(3), pytest.approx(3)]
    assert resampling.contributions(sums).sum(axis=0).tolist() == [pytest.approx(3), pytest.approx(3)]


def test_damage_is_summed_by_text_function_and_stratum():
    sums = resampling_of([[1, 0, 1, 1]], [7, 7, 7, 3]).reduce(np.asarray([[1, 2, 4, 8]], dtype=np.float32))
    assert sums.dtype == np.float32
    assert sums.tolist() == [[[0, 8]], [[2, 5]]]


def test_what_all_functions_read_alike_counts_for_each_by_its_own_strata():
    resampling = resampling_of([[1, 1, 0], [0, -1, 1]])
    alike = np.asarray([[1, 3, 5]], dtype=np.float32)
    assert resampling.effects(resampling.reduce(alike)).tolist() == [3.5, 3.0]


def test_an_effect_is_the_difference_of_the_readouts():
    generator = np.random.default_rng(0)
    strata = generator.integers(-1, 2, (3, 40)).astype(np.int8)
    before, after = generator.normal(size=(2, 3, 40)).astype(np.float32)
    resampling = resampling_of(strata, np.repeat(np.arange(10), 4))
    effects = resampling.effects(resampling.reduce(before - after))
    np.testing.assert_allclose(effects, summarize(before, strata) - summarize(after, strata), atol=1e-6)


def test_means_within_a_resample_are_over_the_instances_it_holds():
    # Texts of very different length, but all positives and all negatives alike: no resample says otherwise.
    strata = [[1, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 0]]
    resampling = resampling_of(strata, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    effects = np.where(np.asarray(strata) == 1, 1, 3).astype(np.float32)
    np.testing.assert_allclose(resampling.bootstrap(resampling.reduce(effects)), 2, rtol=1e-6)


def test_texts_are_resampled_not_instances():
    text = np.repeat(np.arange(100), 5)
    of_texts = np.random.default_rng(0).normal(size=100)
    resampling = resampling_of(np.ones((1, 500)), text)
    effects = resampling.bootstrap(resampling.reduce(of_texts[text][None].astype(np.float32)))
    assert effects.shape == (1000, 1)
    assert effects.std() == pytest.approx(of_texts.std() / np.sqrt(100), rel=0.1)


def test_resamples_are_the_same_for_all_cells():
    resampling = resampling_of(np.ones((1, 50)))
    effects = np.random.default_rng(0).normal(size=(1, 50)).astype(np.float32)
    one, other = (resampling.bootstrap(resampling.reduce(each)) for each in (effects, effects + 1))
    assert one.std() > 0.05
    np.testing.assert_allclose(other - one, 1, atol=1e-5)


def test_a_resample_that_lacks_a_stratum_says_nothing_of_the_function():
    strata = np.zeros((2, 50))
    strata[0, 0] = 1  # one text alone has a positive: (1 - 1/50)^50 of resamples lack it
    resampling = resampling_of(strata)
    effects = resampling.bootstrap(resampling.reduce(np.ones((1, 50), dtype=np.float32)))
    assert np.isnan(effects[:, 0]).mean() == pytest.approx(0.364, abs=0.05)
    assert np.isfinite(effects[:, 1]).all()
    assert (np.isfinite(effects) == resampling.is_defined).all()


@pytest.mark.parametrize("effects", [[1, 2, 3, -1, 0.5, 0], [1, 1, 1, 0, 0, 0], [1, 1, -1, 0, 0, 0]])
def test_p_is_the_share_of_signs_of_texts_that_give_as_much(effects):
    observed = abs(sum(effects))
    signs = itertools.product((-1, 1), repeat=len(effects))
    exact = np.mean([abs(np.dot(each, effects)) >= observed for each in signs])
    assert p_of(resampling_of(np.ones((1, 6)), n_permutations=19_999), effects) == pytest.approx(exact, abs=0.015)


def test_no_p_is_less_than_one_permutation_in_all():
    assert p_of(resampling_of(np.ones((1, 100)), n_permutations=99), [1.0] * 100) == 0.01


def test_instances_of_a_text_change_sign_together():
    resampling = resampling_of(np.ones((1, 60)), np.repeat([0, 1, 2], 20), n_permutations=19_999)
    assert p_of(resampling, [1.0] * 60) == pytest.approx(0.25, abs=0.015)


def test_no_damage_has_p_1():
    assert p_of(resampling_of(np.ones((1, 9))), [0] * 9) == 1


def test_cells_that_do_the_same_damage_do_not_differ():
    effects = np.random.default_rng(0).normal(size=300)
    assert p_of(resampling_of(np.ones((1, 300))), effects, effects, contrast=first_less_second) == 1


def test_ties_count_also_where_rounding_tells_them_apart():
    # Three texts differ, all in one direction, between cells whose large effects are no round number.
    one = np.random.default_rng(0).normal(size=300).astype(np.float32)
    other = one.copy()
    other[:3] -= 0.3
    resampling = resampling_of(np.ones((1, 300)), n_permutations=19_999)
    assert p_of(resampling, one, other, contrast=first_less_second) == pytest.approx(0.25, abs=0.015)


def test_a_seed_gives_the_same_resamples_and_permutations():
    effects = np.random.default_rng(0).normal(size=(1, 20)).astype(np.float32)

    def drawn(seed):
        resampling = resampling_of(np.ones((1, 20)), seed=seed)
        return resampling.bootstrap(resampling.reduce(effects)).tolist(), p_of(resampling, effects)

    assert drawn(3) == drawn(3)
    assert drawn(3)[0] != drawn(4)[0]
    assert drawn(3)[1] != drawn(4)[1]


def test_too_few_resamples_for_a_rare_function_are_refused():
    strata = np.zeros((1, 50))
    strata[0, 0] = 1
    with pytest.raises(AnalysisError, match="none of 1 resamples of 50 texts"):
        resampling_of(strata, n_bootstrap=1, seed=2)
