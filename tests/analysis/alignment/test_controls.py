"""The test of experts against control functions: calibrated where labels mean nothing, powerful where they do not."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from neuronlake.analysis.alignment.layer_tests import control_tests

N_NEURONS, N_EXPERTS, N_TOP, N_FUNCTIONS = 1536, 16, 15, 60
NEURONS = pl.DataFrame({"neuron": np.arange(N_NEURONS), "expert": np.arange(N_NEURONS) % N_EXPERTS})


def lucky_lists(generator, n_draws, correlation=0.1, favoured=0.0):
    """Draw top lists for random functions, [draws, functions, top]: neurons of an expert are lucky together.

    Neurons of experts 0 to 3 are so in addition, for all functions.
    """
    shared = generator.normal(size=(n_draws, N_FUNCTIONS, N_EXPERTS))
    own = generator.normal(size=(n_draws, N_FUNCTIONS, N_NEURONS))
    expert = NEURONS["expert"].to_numpy()
    scores = np.sqrt(correlation) * shared[:, :, expert] + np.sqrt(1 - correlation) * own + favoured * (expert < 4)
    return np.argsort(-scores, axis=2)[:, :, :N_TOP]


def entries(lists, n_families):
    """Return lists as rows of controls, and the names of the functions and families with how often a list has each."""
    draw, function, _ = np.indices(lists.shape).reshape(3, -1)
    family = np.asarray([f"family {number % n_families}" for number in range(N_FUNCTIONS)])
    return pl.DataFrame(
        {
            "control": "word",
            "half": "all",
            "draw": draw,
            "family": family[function],
            "function": [f"{number:02}" for number in function],
            "n_rarer": 10 + function,
            "neuron": lists.ravel(),
        }
    )


def found(rows):
    """Return the lists of rows, families among them, and the entries of each in each expert."""
    rows = pl.concat([rows, rows.with_columns(function=pl.lit("*"))])
    names = rows.select("half", "family", "function").unique().sort("half", "family", "function")
    counted = rows.join(names.with_row_index("list"), on=names.columns).join(NEURONS, on="neuron")
    counts = np.zeros((N_EXPERTS, names.height))
    np.add.at(counts, (counted["expert"].to_numpy(), counted["list"].to_numpy()), 1)
    return names, counts


def against_controls(real, controls, n_families=3):
    """Return whether lists are of a family, and their p values, found and smallest, in each expert."""
    names, counts = found(entries(real[None], n_families))
    most = np.broadcast_to(counts.sum(axis=0).astype(int), counts.shape)
    columns = control_tests(NEURONS, names, entries(controls, n_families), counts, most)["word"]
    is_family = (names["function"] == "*").to_numpy()
    p_value, smallest = (columns[name].to_numpy().reshape(counts.shape) for name in ("p_value", "smallest_p"))
    return is_family, p_value, smallest, columns


@pytest.mark.parametrize("favoured", [0.0, 0.5])
@pytest.mark.parametrize("n_draws", [1, 4])
def test_lists_that_mean_nothing_are_found_at_the_level_where_the_hypergeometric_test_finds_too_many(n_draws, favoured):
    generator = np.random.default_rng(0)
    p, of_families, exact, n_found = [], [], [], 0
    for _ in range(8):
        real, *controls = lucky_lists(generator, 1 + n_draws, favoured=favoured)
        is_family, p_value, _, _ = against_controls(real, np.stack(controls))
        p.append(p_value[:, ~is_family])
        of_families.append(p_value[:, is_family])
        _, counts = found(entries(real[None], 1))
        exact.append(stats.hypergeom.sf(counts - 1, N_NEURONS, N_NEURONS // N_EXPERTS, N_TOP)[:, 1:])
        n_found += (stats.false_discovery_control(p[-1].ravel()) <= 0.05).sum()
    assert np.mean(np.concatenate(p) <= 0.05) < 0.05
    assert np.mean(np.concatenate(p) <= 0.001) < 0.002
    assert np.mean(np.concatenate(exact) <= 0.001) > 0.005
    assert n_found <= 1
    assert np.mean(np.concatenate(of_families) <= 0.05) < 0.06
    assert (stats.false_discovery_control(np.stack(of_families).ravel()) > 0.05).all()


def test_a_planted_expert_is_found_against_controls_and_its_family_too():
    generator = np.random.default_rng(1)
    real, *controls = lucky_lists(generator, 3, correlation=0.03)
    in_expert = NEURONS.filter(expert=7)["neuron"].to_numpy()
    real[::3, :8] = in_expert[:8]  # all functions of family 0, and one of family 1
    real[1, :8] = in_expert[20:28]
    is_family, p_value, _, columns = against_controls(real, np.stack(controls))
    q_value = stats.false_discovery_control(p_value[:, ~is_family].ravel()).reshape(N_EXPERTS, -1)
    significant = {(int(expert), int(place)) for expert, place in np.argwhere(q_value <= 0.05)}
    of_family_0 = {(7, place) for place in range(20)}
    assert significant >= of_family_0 | {(7, 20)}  # lists are sorted by family
    assert len(significant) <= 23
    assert np.argwhere(p_value[:, is_family] <= 0.001).tolist() == [[7, 0]]
    # Lists of a function are both draws of 50 of like prevalence, of a family one of each draw.
    assert columns["n_permutations"].unique().sort().to_list() == [2, 100]


def test_what_an_expert_holds_of_every_control_list_is_no_finding():
    generator = np.random.default_rng(2)
    lists = lucky_lists(generator, 4)
    lists[:, :, :6] = NEURONS.filter(expert=3)["neuron"].to_numpy()[:6]
    is_family, p_value, _, columns = against_controls(lists[0], lists[1:])
    assert p_value[3].min() > 0.05
    n_expected = columns["n_expected"].to_numpy().reshape(p_value.shape)[3, ~is_family]
    assert n_expected == pytest.approx(6.3, abs=0.2)


def test_the_smallest_p_is_that_of_all_entries_in_the_expert():
    generator = np.random.default_rng(3)
    real, *controls = lucky_lists(generator, 2)
    real[5] = NEURONS.filter(expert=2)["neuron"].to_numpy()[:N_TOP]
    is_family, p_value, smallest, _ = against_controls(real, np.stack(controls), n_families=1)
    assert (smallest <= p_value).all()
    assert p_value[2, 6] == smallest[2, 6] < 1e-6
    assert is_family[0]


def test_without_control_lists_of_its_half_or_family_a_list_is_not_against_controls():
    generator = np.random.default_rng(4)
    real, *controls = lucky_lists(generator, 2)
    names, counts = found(entries(real[None], 3))
    rows = entries(np.stack(controls), 3).filter(pl.col("family") != "family 1")
    columns = control_tests(NEURONS, names, rows, counts, counts.astype(int))["word"]
    tested_lists = ~np.isnan(columns["p_value"].to_numpy().reshape(counts.shape)).any(axis=0)
    assert tested_lists.tolist() == (names["family"] != "family 1").to_list()
    of_other_half = control_tests(NEURONS, names, rows.with_columns(half=pl.lit("a")), counts, counts.astype(int))
    assert of_other_half["word"]["p_value"].is_nan().all()
