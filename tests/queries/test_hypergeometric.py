"""The tails of the hypergeometric and the binomial distribution, against scipy and exact fractions."""

from itertools import product
from math import comb

import numpy as np
import pytest
from scipy import stats

from neuronlake.queries.database import Database


def tails(empty: Database, name: str, cases: list[tuple[float, ...]]) -> list[float]:
    """Return the macro's value for each row of arguments, in order."""
    columns = [list(values) for values in zip(*cases, strict=True)]
    selected = ", ".join(f"unnest(?) as c{index}" for index in range(len(columns)))
    arguments = ", ".join(f"c{index}" for index in range(len(columns)))
    rows = empty.sql(f"select {name}({arguments}) from (select {selected})", columns).rows()
    return [row[0] for row in rows]


def exact_hypergeometric(n_found: int, n_marked: int, n_drawn: int, n_all: int) -> float:
    most = min(n_marked, n_drawn)
    ways = sum(comb(n_marked, i) * comb(n_all - n_marked, n_drawn - i) for i in range(max(n_found, 0), most + 1))
    return ways / comb(n_all, n_drawn)


def exact_binomial(n_found: int, n_trials: int, probability: float) -> float:
    hit, all_ = probability.as_integer_ratio()
    ways = sum(
        comb(n_trials, i) * hit**i * (all_ - hit) ** (n_trials - i) for i in range(max(n_found, 0), n_trials + 1)
    )
    return ways / all_**n_trials


def test_the_hypergeometric_tail_is_that_of_exact_fractions(empty: Database) -> None:
    populations = [(1, 1, 1), (2, 1, 1), (10, 3, 4), (10, 7, 8), (10, 10, 3), (10, 0, 3), (60, 30, 30), (300, 20, 96)]
    cases = [
        (found, marked, drawn, n_all)
        for n_all, marked, drawn in populations
        for found in range(-1, min(marked, drawn) + 2)
    ]
    expected = [exact_hypergeometric(*case) for case in cases]
    assert tails(empty, "hypergeometric_tail", cases) == pytest.approx(expected, rel=1e-13, abs=0)


def test_far_tails_of_large_populations_keep_their_digits(empty: Database) -> None:
    cases = [
        (30, 192, 30, 3072),
        (190, 192, 1000, 3072),
        (1, 1, 1, 200_000),
        (100, 100, 2000, 200_000),
        (60, 100, 2000, 200_000),
        (1, 100, 2000, 200_000),
        (3, 2000, 100, 200_000),
        (200, 199_900, 200, 200_000),
        (150, 199_900, 200, 200_000),
    ]
    expected = [exact_hypergeometric(*case) for case in cases]
    assert min(expected) < 1e-200
    assert tails(empty, "hypergeometric_tail", cases) == pytest.approx(expected, rel=1e-12, abs=0)


def test_the_hypergeometric_tail_agrees_with_scipy_on_a_grid(empty: Database) -> None:
    cases = []
    for n_all, marked, drawn in product((50, 3072, 200_000), (0.001, 0.01, 0.0625, 0.5, 0.999), (0.001, 0.01, 0.3, 1)):
        population = (max(1, round(n_all * marked)), max(1, round(n_all * drawn)))
        least, most = max(0, sum(population) - n_all), min(population)
        middle = round(population[0] * population[1] / n_all)
        found = {least, least + 1, most - 1, most, *(middle + round(shift * most**0.5) for shift in (-3, -1, 0, 1, 3))}
        cases += [(each, *population, n_all) for each in sorted(found) if 0 <= each <= most]
    found, marked, drawn, n_all = np.asarray(cases).T
    expected = stats.hypergeom.sf(found - 1, n_all, marked, drawn)
    # Below the smallest normal number neither has all digits.
    is_normal = expected > 1e-300
    assert np.count_nonzero(is_normal) > 250
    assert np.asarray(tails(empty, "hypergeometric_tail", cases)) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_a_count_beyond_the_possible_has_probability_0_and_one_always_reached_has_1(empty: Database) -> None:
    cases = [(31, 192, 30, 3072), (5, 4, 30, 3072), (0, 4, 30, 3072), (-3, 4, 30, 3072), (8, 9, 9, 10), (0, 0, 0, 0)]
    assert tails(empty, "hypergeometric_tail", cases) == [0, 0, 1, 1, 1, 1]


def test_the_binomial_tail_is_that_of_exact_fractions(empty: Database) -> None:
    cases = [
        (found, trials, probability)
        for trials, probability in product((1, 7, 40), (0.0, 0.0625, 0.5, 0.99, 1.0))
        for found in range(-1, trials + 2)
    ] + [(60, 3000, 1 / 1024), (1170, 1170, 0.0625), (1, 1170, 0.0625), (150, 1170, 0.0625)]
    expected = [exact_binomial(*case) for case in cases]
    assert tails(empty, "binomial_tail", cases) == pytest.approx(expected, rel=1e-13, abs=1e-300)


def test_the_binomial_tail_agrees_with_scipy_on_many_trials(empty: Database) -> None:
    cases = [(k, 200_000, p) for p in (1 / 96, 0.5) for k in (1, 1900, 2083, 2500, 99_000, 100_000, 101_000, 200_000)]
    found, trials, probability = np.asarray(cases).T
    expected = stats.binom.sf(found - 1, trials, probability)
    assert np.asarray(tails(empty, "binomial_tail", cases)) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_the_tail_of_null_is_null(empty: Database) -> None:
    query = (
        "select hypergeometric_tail(null, 1, 1, 2), hypergeometric_tail(1, null, 1, 2), "
        "hypergeometric_tail(1, 1, null, 2), hypergeometric_tail(1, 1, 1, null), "
        "binomial_tail(null, 1, .5), binomial_tail(1, null, .5), binomial_tail(1, 1, null)"
    )
    assert empty.sql(query).rows() == [(None,) * 7]
