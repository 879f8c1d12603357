"""Means over the sources of a study, against contrasts averaged by hand and permutations counted by hand."""

from itertools import permutations

import numpy as np
import polars as pl
import pytest

from neuronlake.analysis.effects.contrast import CellEffect, contrasts
from neuronlake.analysis.effects.resampling import Resampling
from neuronlake.analysis.effects.rows import contrast_rows, mean_rows

N_TEXTS = 200
TARGETS = [("f", name) for name in "abcd"]


def resampling(n_permutations: int = 1999) -> Resampling:
    """Return texts of one instance each, every other a positive of every function."""
    strata = np.tile(np.arange(N_TEXTS) % 2, (len(TARGETS), 1)).astype(np.int8)
    return Resampling(strata, np.arange(N_TEXTS), n_bootstrap=300, n_permutations=n_permutations, seed=3)


def study(shares: np.ndarray, texts: Resampling, *, noise: int = 0, controls: int = 0) -> list[CellEffect]:
    """Return cells that change the first share of the texts, [sources, functions], some texts at random beside."""
    generator = np.random.default_rng(noise)
    cells = []
    for row, (family, function) in enumerate(TARGETS[: len(shares)]):
        sets = [("top", family, function, 0, shares[row])]
        sets += [("matched", family, function, seed, np.zeros(len(TARGETS))) for seed in range(controls)]
        for selection, source_family, source_function, seed, share in sets:
            effects = (np.arange(N_TEXTS) < np.round(share[:, None] * N_TEXTS)).astype(np.float32)
            if noise:
                effects = effects + generator.choice([-1, 0, 0, 0, 1], size=effects.shape)
            cells.append(
                CellEffect(source_family, source_function, selection, 0.1, seed, np.array([row]), texts.reduce(effects))
            )
    return cells


def means(cells: list[CellEffect], texts: Resampling) -> pl.DataFrame:
    return mean_rows(contrasts(texts, cells, TARGETS))


def test_means_are_those_of_the_contrasts_on_target():
    texts = resampling()
    cells = study(np.random.default_rng(0).random((4, 4)), texts, noise=1, controls=3)
    found = means(cells, texts)
    assert found.select("control", "n_sources").rows() == [("none", 4), ("other", 4), ("matched", 4)]
    rows = contrast_rows(contrasts(texts, cells, TARGETS)).filter(pl.col("is_on_target"), selection="top")
    expected = rows.group_by("control").agg(pl.col("difference", "selectivity").mean())
    joined = found.join(expected, on="control", suffix="_expected")
    assert joined.height == 3
    assert joined["difference"].to_numpy() == pytest.approx(joined["difference_expected"].to_numpy(), abs=1e-6)
    assert joined["selectivity"].to_numpy() == pytest.approx(joined["selectivity_expected"].to_numpy(), abs=1e-6)


def test_the_p_over_functions_is_the_share_of_assignments():
    texts = resampling(20_000)
    shares = np.round(np.random.default_rng(5).random((4, 4)), 2)
    found = means(study(shares, texts), texts).filter(control="none")
    sums = [sum(shares[row, column] for row, column in enumerate(each)) for each in permutations(range(4))]
    share = np.mean([value >= sums[0] - 1e-9 for value in sums])
    assert 0.1 < share < 0.9
    assert found["selectivity_p_functions"].item() == pytest.approx(share, abs=0.02)


def test_damage_to_everything_or_of_fragile_functions_is_not_selective():
    texts = resampling()
    shares = np.add.outer([0.1, 0.3, 0.2, 0.0], [0.0, 0.4, 0.1, 0.2])
    found = means(study(shares, texts), texts).filter(control="none")
    assert found["difference"].item() > 0.2
    assert found["selectivity_p_functions"].item() == 1.0


def test_damage_too_small_for_each_source_is_seen_in_the_mean():
    texts = resampling()
    cells = study(0.12 * np.eye(4), texts, noise=2)
    alone = contrast_rows(contrasts(texts, cells, TARGETS)).filter(pl.col("is_on_target"), control="none")
    found = means(cells, texts).filter(control="none")
    assert found["difference_p_texts"].item() < alone["p_texts"].min()
    assert found["difference_low"].item() > 0
    assert found["selectivity_low"].item() > 0


def test_a_p_over_functions_is_uniform_when_it_does_not_matter_whose_the_neurons_are():
    texts = resampling(199)
    generator = np.random.default_rng(9)
    found = [
        means(study(generator.random((4, 4)), texts), texts).filter(control="none")["selectivity_p_functions"].item()
        for _ in range(60)
    ]
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) <= 0.25) == pytest.approx(0.25, abs=0.15)


def test_a_single_source_has_no_p_over_functions():
    texts = resampling()
    found = means(study(np.array([[0.5, 0, 0, 0]]), texts), texts)
    assert found["n_sources"].to_list() == [1]
    assert found["selectivity_p_functions"].to_list() == [None]
    assert found["selectivity"].item() == pytest.approx(0.5)


def test_a_single_target_has_no_selectivity_and_no_p_of_one():
    strata = (np.arange(N_TEXTS) % 2)[None].astype(np.int8)
    texts = Resampling(strata, np.arange(N_TEXTS), n_bootstrap=300, n_permutations=99, seed=3)
    effects = np.ones((1, N_TEXTS), dtype=np.float32)
    cell = CellEffect("f", "a", "top", 0.1, 0, np.arange(1), texts.reduce(effects))
    found = mean_rows(contrasts(texts, [cell], TARGETS[:1]))
    assert found["difference"].to_list() == [1]
    assert [found[name].to_list() for name in found.columns if name.startswith("selectivity")] == [[None]] * 5


def test_sources_that_are_no_targets_have_no_means():
    texts = resampling()
    cell = CellEffect(
        "query", "query", "query", 0.1, 0, np.arange(1), texts.reduce(np.ones((4, N_TEXTS), dtype=np.float32))
    )
    assert means([cell], texts).is_empty()
