"""Contrasts of sources with their controls."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from neuronlake.analysis.effects.contrast import CellEffect, contrasts
from neuronlake.analysis.effects.resampling import Resampling
from neuronlake.analysis.effects.rows import compare_with_sets, contrast_rows
from neuronlake.schema.tables import table

TARGETS = (("task", "a"), ("task", "b"), ("task", "c"))
ANY = ("*", "*")
N_TEXTS = 30


@pytest.fixture(scope="module")
def rows():
    """Return a function from cells, each (source, selection, dose, seed, effect on each target), to their rows.

    Effects are the same on every text, so that an effect is what the cell says, unless it is noisy.
    """

    def make(*cells, targets=TARGETS, noise=0.0, unreadable=()):
        generator = np.random.default_rng(0)
        strata = np.tile(np.asarray([0, 1], dtype=np.int8), (len(targets), N_TEXTS // 2))
        resampling = Resampling(strata, np.arange(N_TEXTS), n_bootstrap=2000, n_permutations=499, seed=0)
        cell_effects = [
            CellEffect(
                *source,
                selection,
                dose,
                seed,
                np.array([(*targets, ANY).index(source)] if source in targets else [100 + seed]),
                resampling.reduce(np.asarray(effects)[:, None] + noise * generator.normal(size=strata.shape)),
            )
            for source, selection, dose, seed, effects in cells
        ]
        is_readable = np.array([name not in unreadable for _, name in targets])
        return contrast_rows(contrasts(resampling, cell_effects, targets, is_readable))

    return make


def own(place, effects, *, dose=0.1, seed=0):
    return TARGETS[place], "functional", dose, seed, effects


def random(*effects_of_sets, dose=0.1):
    return [(ANY, "random", dose, seed, effects) for seed, effects in enumerate(effects_of_sets)]


def values(rows, *columns, **keys):
    return rows.filter(**keys).sort("target_function").select(columns).rows()


def test_rows_have_the_columns_of_the_table_after_its_keys(rows):
    found = rows(own(0, [3, 1, 2]))
    columns = table("perturbation_contrasts").column_names
    assert tuple(found.columns) == columns[columns.index("source_family") :]
    assert found.height == 3


def test_effects_are_means_over_sets_and_differ_from_the_controls(rows):
    found = rows(own(0, [3, 1, 2]), own(0, [5, 1, 2], seed=1), *random([1, 0, 0], [2, 0, 3]))
    columns = ("n_sets", "n_control_sets", "effect", "control_effect", "difference")
    about = pytest.approx
    assert values(found, *columns, selection="functional", control="random") == [
        (2, 2, about(4), about(1.5), about(2.5)),
        (2, 2, about(1), 0, about(1)),
        (2, 2, about(2), about(1.5), about(0.5)),
    ]
    assert values(found, *columns, selection="functional", control="none")[0] == (2, 0, about(4), 0, about(4))


def test_controls_are_those_that_a_study_has_at_the_same_dose(rows):
    found = rows(
        own(0, [1, 1, 1]),
        own(0, [1, 1, 1], dose=0.2),
        own(1, [1, 1, 1]),
        (TARGETS[0], "matched", 0.1, 0, [1, 1, 1]),
        (ANY, "nonfunctional", 0.1, 0, [1, 1, 1]),
        *random([1, 1, 1], dose=0.2),
    ).filter(selection="functional")
    controls = found.group_by("source_function", "dose").agg(pl.col("control").unique().sort()).sort("dose").rows()
    assert sorted(controls) == [
        ("a", 0.1, ["matched", "none", "nonfunctional"]),
        ("a", 0.2, ["none", "random"]),
        ("b", 0.1, ["none", "nonfunctional"]),
    ]


def test_a_control_of_its_own_source_is_not_that_of_another(rows):
    found = rows(
        own(0, [5, 5, 5]),
        own(1, [5, 5, 5]),
        (TARGETS[0], "matched", 0.1, 0, [1, 1, 1]),
        (TARGETS[1], "matched", 0.1, 0, [2, 2, 2]),
    ).filter(selection="functional", control="matched")
    assert found.group_by("source_function").agg(pl.col("control_effect").first()).sort("source_function").rows() == [
        ("a", pytest.approx(1)),
        ("b", pytest.approx(2)),
    ]


def test_control_selections_are_contrasted_with_no_perturbation_only(rows):
    found = rows(own(0, [3, 1, 2]), *random([1, 0, 0], [2, 0, 3]), (TARGETS[0], "matched", 0.1, 0, [1, 1, 1]))
    found = found.filter(pl.col("selection") != "functional")
    assert set(found["control"]) == {"none"}
    assert values(found, "effect", "n_sets", selection="random")[0] == (pytest.approx(1.5), 2)
    assert values(found, "is_on_target", selection="matched") == [(True,), (False,), (False,)]
    assert not found.filter(selection="random")["is_on_target"].any()


def test_other_sources_are_a_control_but_not_on_their_own_function(rows):
    found = rows(own(0, [9, 1, 2]), own(1, [3, 9, 4]), own(2, [5, 6, 9]), own(2, [7, 6, 9], seed=1))
    about = pytest.approx
    # On a: b's 3 and c's mean of 5 and 7; on b only c's 6, on c only b's 4.
    assert values(found, "control_effect", "n_control_sets", control="other", source_function="a") == [
        (about(4.5), 2),
        (about(6), 1),
        (about(4), 1),
    ]


def overlapping(**neurons):
    """Return cells of sources a, b, … that damage what they are named for, given the neurons of each."""
    strata = np.tile(np.asarray([0, 1], dtype=np.int8), (len(neurons), N_TEXTS // 2))
    resampling = Resampling(strata, np.arange(N_TEXTS), n_bootstrap=100, n_permutations=99, seed=0)
    targets = [("task", name) for name in neurons]
    cells = [
        CellEffect("task", source, "top", 0.1, 0, np.array(own), resampling.reduce(np.full(strata.shape, place)))
        for place, (source, own) in enumerate(neurons.items())
    ]
    found = contrast_rows(contrasts(resampling, cells, targets)).filter(control="other", target_function="a")
    return found.select("source_function", "n_control_sets", "control_effect", "control_overlap").rows()


def test_sources_that_share_more_neurons_than_chance_are_no_control_of_each_other(rows):
    ten = {name: range(100 * place, 100 * place + 10) for place, name in enumerate("abcd")}
    assert [row[:2] for row in overlapping(**ten)] == [("a", 3), ("b", 2), ("c", 2), ("d", 2)]
    # Of 100 neurons, as a dose of .1 says, ten and ten share 3 or more by chance in 6.0% of draws, and 4 in .8%.
    assert stats.hypergeom.sf([2, 3], 100, 10, 10) == pytest.approx([0.060, 0.008], abs=5e-4)
    found = overlapping(**ten | {"b": [0, 1, 2, 3, *range(500, 506)], "c": [0, 1, 2, *range(700, 707)]})
    about = pytest.approx
    assert found == [
        ("a", 2, about(2.5), about(0.15)),  # c and d, of which c shares 3
        ("b", 2, about(2.5), about(0.15)),
        ("c", 2, about(2), about(0.2)),
        ("d", 2, about(1.5), 0),
    ]


def test_random_sets_say_how_much_of_the_source_they_hold(rows):
    found = rows(own(0, [3, 1, 2]), *random([1, 0, 0], [2, 0, 3]))
    assert values(found, "control_overlap", control="random") == [(0,)] * 3
    assert values(found, "control_overlap", control="none", selection="functional") == [(None,)] * 3


def test_a_single_other_source_is_no_control(rows):
    assert "other" not in set(rows(own(0, [9, 1, 2]), own(1, [3, 9, 4]))["control"])


def test_p_of_sets_is_that_of_one_more_draw_from_a_normal_distribution(rows):
    found = rows(own(0, [3, 1.2, 2]), *random([1, 1, 2], [1.5, 2, 3], [0.9, 1, 5], [0.7, 3, 2.5]))
    p_values = [p for (p,) in values(found, "p_sets", control="random")]
    # The same as comparing a sample of one with the sets, their variance taken as equal.
    sets = np.asarray([[1, 1.5, 0.9, 0.7], [1, 2, 1, 3], [2, 3, 5, 2.5]])
    expected = [stats.ttest_ind([own], each).pvalue for own, each in zip((3, 1.2, 2), sets, strict=True)]
    assert p_values == pytest.approx(expected, rel=1e-5)


def test_control_sets_that_are_all_alike_say_only_whether_the_own_is_like_them(rows):
    found = rows(own(0, [0.3, 1.7, 0]), *random(*[[0.3, 0.3, 0]] * 3))
    assert values(found, "p_sets", control="random") == [(1,), (None,), (1,)]


def test_sets_that_differ_by_rounding_only_are_alike():
    sets = np.asarray([0.1, 0.1 + 1e-9, 0.1])
    _, standard_error, p_value = compare_with_sets(np.asarray([0.1, 0.2]), np.stack([sets, sets], axis=1))
    assert standard_error.tolist() == [0, 0]
    assert p_value[0] == 1
    assert np.isnan(p_value[1])


@pytest.mark.parametrize("n_sets", [0, 1])
def test_fewer_than_two_control_sets_have_no_p(rows, n_sets):
    found = rows(own(0, [1, 1, 1]), *random(*[[0, 0, 0]] * n_sets)).filter(selection="functional")
    assert found["p_sets"].null_count() == found.height
    assert found["selectivity_p_sets"].null_count() == found.height


def test_an_interval_is_of_percentiles_over_texts(rows):
    found = rows(own(0, [1, 2, 3]), noise=1.0)
    for effect, low, high in values(found, "effect", "difference_low", "difference_high", control="none"):
        assert low < effect < high
        assert high - low == pytest.approx(2 * 1.96 / np.sqrt(N_TEXTS), rel=0.4)


def test_an_interval_takes_in_that_control_sets_differ(rows):
    of_sets = [1.0, 1.4, 0.8, 1.2]
    found = rows(own(0, [3, 3, 3]), *random(*([each] * 3 for each in of_sets)))
    low, high = values(found, "difference_low", "difference_high", control="random")[0]
    # Texts are all alike: what is left is Student's interval of the mean of the sets.
    interval = stats.t.interval(0.95, 3, loc=np.mean(of_sets), scale=stats.sem(of_sets))
    assert (3 - high, 3 - low) == pytest.approx(interval, rel=0.03)


def test_an_effect_that_all_texts_show_is_found_and_none_is_not(rows):
    found = rows(own(0, [5, 0, 0]), noise=1.0)
    p_values = [p for (p,) in values(found, "p_texts", control="none")]
    assert p_values[0] == 0.002
    assert min(p_values[1:]) > 0.05


def test_selectivity_is_the_difference_on_target_less_its_mean_on_all_others(rows):
    found = rows(own(1, [1, 9, 2]), *random([0, 1, 1], [0, 3, 1]))
    selectivity = "selectivity"
    assert values(found, selectivity, control="none", selection="functional") == [
        (None,),
        (pytest.approx(9 - 1.5),),
        (None,),
    ]
    assert values(found, selectivity, control="random")[1] == (pytest.approx(7 - 1),)


def test_functions_read_at_chance_do_not_make_a_source_look_selective(rows):
    # Both damage what can be damaged, a and b; c cannot be.
    cells = own(0, [4, 4, 0]), own(1, [4, 4, 0]), own(2, [4, 4, 0]), *random([0, 1, 0], [0, 3, 0])
    everything = rows(*cells).filter(control="none", selection="functional", is_on_target=True)
    assert everything["selectivity"].to_list() == pytest.approx([2, 2, -4])
    found = rows(*cells, unreadable="c").filter(selection="functional", is_on_target=True)
    columns = ("selectivity", "selectivity_high", "selectivity_p_texts")
    about = pytest.approx
    assert found.filter(control="none").select(columns).rows() == [(0, 0, 1), (0, 0, 1), (None, None, None)]
    assert found.filter(control="random")["selectivity"].to_list() == [about(2), about(-2), None]
    assert rows(*cells, unreadable="c").filter(source_function="a", control="none")["is_readable"].to_list() == [
        True, True, False
    ]  # fmt: skip


def test_with_no_other_readable_function_there_is_no_selectivity(rows):
    found = rows(own(0, [4, 4, 0]), *random([0, 1, 0], [0, 3, 0]), unreadable="bc")
    assert found["selectivity"].null_count() == found["selectivity_p_sets"].null_count() == found.height


def test_an_interval_inside_the_margin_is_an_equivalence_test(rows):
    """Two one-sided tests (Schuirmann 1987): effects at the margin pass as negligible in 2.5% of cases, none mostly."""
    targets = tuple(("task", str(place)) for place in range(400))
    error = 1 / np.sqrt(N_TEXTS)
    for effect, margin, least, most in ((0.0, 4 * error, 0.9, 1.0), (4 * error, 4 * error, 0.0, 0.05)):
        found = rows((ANY, "random", 0.1, 0, [effect] * len(targets)), targets=targets, noise=1.0)
        bound = np.maximum(-found["difference_low"].to_numpy(), found["difference_high"].to_numpy())
        assert least <= (bound < margin).mean() <= most


def test_selectivity_is_tested_over_texts_and_among_the_sets(rows):
    of_sets = np.asarray([[0, 1, 1], [0.5, 3, 1], [1, 2, 0.2], [0, 1.5, 0]])
    found = rows(own(1, [1, 9, 2]), *random(*of_sets), noise=0.01)
    columns = ("selectivity", "selectivity_low", "selectivity_high", "selectivity_p_texts", "selectivity_p_sets")
    selectivity, low, high, p_texts, p_sets = values(found, *columns, control="random")[1]
    theirs = of_sets[:, 1] - of_sets[:, [0, 2]].mean(axis=1)
    assert p_texts == 0.002
    assert p_sets == pytest.approx(stats.ttest_ind([7.5], theirs).pvalue, rel=0.02)
    half = stats.t.ppf(0.975, 3) * stats.sem(theirs)
    assert (low, high) == pytest.approx((selectivity - half, selectivity + half), rel=0.02)


def test_sources_that_are_all_selective_do_not_make_one_that_is_not_look_so(rows):
    targets = tuple(("task", name) for name in "abcdef")
    cells = [(targets[0], "functional", 0.1, 0, [0.0] * 6)]
    cells += [(targets[place], "functional", 0.1, 0, 5.0 * np.eye(6)[place]) for place in range(1, 6)]
    found = rows(*cells, targets=targets, noise=0.5)
    selectivity, p_sets = values(found, "selectivity", "selectivity_p_sets", control="other", source_function="a")[0]
    assert abs(selectivity) < 0.3
    assert p_sets > 0.05


def test_a_single_target_has_no_selectivity(rows):
    found = rows((TARGETS[0], "functional", 0.1, 0, [1.0]), targets=TARGETS[:1])
    selective = [name for name in found.columns if name.startswith("selectivity")]
    assert found.select("is_on_target", *selective).rows() == [(True, *[None] * len(selective))]


def test_a_source_that_is_no_target_is_never_on_target(rows):
    found = rows((("query", "mine"), "query", 0.1, 0, [1, 2, 3]), *random([1, 1, 1], [2, 2, 2]))
    assert not found["is_on_target"].any()
    assert found["selectivity_p_texts"].null_count() == found.height
    assert {"none", "random"} == set(found.filter(selection="query")["control"])


def test_a_study_without_cells_has_no_rows(rows):
    assert rows().height == 0
