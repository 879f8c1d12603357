"""Which neurons each pass perturbs: doses nested in rankings, and controls of as many neurons beside them."""

from collections import Counter
from itertools import compress

import numpy as np
import polars as pl
import pytest

from neuronlake.analysis.perturbation.population import Population
from neuronlake.analysis.perturbation.settings import PerturbationSettings
from neuronlake.analysis.perturbation.sources import Ranking, comparable, most_held, plan_cells, rankings
from neuronlake.errors import AnalysisError, UnknownNameError

ANIMAL, WATER = ("task", "animal"), ("task", "water")


def make_population(n, *, unit_size=1, energy=None):
    neurons = pl.DataFrame({"stack": "encoder", "layer": 0, "neuron": np.arange(n), "mean": 0.0, "std": 1.0})
    energy = 1000.0 + np.arange(n) if energy is None else energy
    return Population(neurons, np.zeros(n, dtype=np.int64), unit_size, energy)


def plan(n, sources, settings, *, nonfunctional=None, unit_size=1, energy=None):
    """Return the cells of a study on n neurons that are compared, and the notes."""
    population = make_population(n, unit_size=unit_size, energy=energy)
    sources = [Ranking(*name, settings.selection, np.array(rows), **options) for name, rows, options in sources]
    pool = None if nonfunctional is None else np.array(nonfunctional)
    notes = []
    cells = plan_cells(population, rankings(population, sources, pool, settings), settings, notes.append)
    return [*compress(cells, comparable(population, cells, settings, notes.append))], notes


def kinds_of(cells):
    """Return how many cells there are by selection, source function, dose and neurons."""
    return Counter((cell.selection, cell.function, cell.dose, len(cell.rows)) for cell in cells)


def top(**options):
    return PerturbationSettings(is_top=True, **options)


def test_each_dose_takes_the_first_of_the_ranking_and_of_each_control():
    sources = [(ANIMAL, range(40, 60), {}), (WATER, range(10, 30), {})]
    cells, notes = plan(100, sources, top(doses=(0.02, 0.2), n_seeds=3))
    assert notes == []
    assert kinds_of(cells) == {
        **{("top", function, dose, n): 1 for function in ("animal", "water") for dose, n in ((0.02, 2), (0.2, 20))},
        **{("matched", function, dose, n): 3 for function in ("animal", "water") for dose, n in ((0.02, 2), (0.2, 20))},
        ("random", "*", 0.02, 2): 3,
        ("random", "*", 0.2, 20): 3,
    }
    own = {(cell.function, cell.dose): cell.rows.tolist() for cell in cells if cell.selection == "top"}
    assert own["animal", 0.02] == [40, 41]
    assert own["water", 0.2] == list(range(10, 30))
    by_ranking = {}
    for cell in cells:
        key = (cell.selection, cell.function, cell.seed)
        by_ranking.setdefault(key, []).append(cell.rows.tolist())
    for small, large in by_ranking.values():
        assert large[:2] == small
        assert len(set(large)) == 20


def test_no_dose_of_a_matched_control_has_a_neuron_of_the_largest_dose():
    cells, _ = plan(100, [(ANIMAL, range(40, 60), {})], top(doses=(0.05, 0.2), n_seeds=9))
    for cell in cells:
        if cell.selection == "matched":
            assert not set(cell.rows.tolist()) & set(range(40, 60))


def test_a_dose_is_one_neuron_at_least():
    cells, _ = plan(10, [(ANIMAL, [3, 4], {})], top(doses=(0.001,), n_seeds=2))
    assert [len(cell.rows) for cell in cells] == [1] * 5


def test_a_kind_that_does_not_draw_perturbs_its_own_neurons_once_and_one_that_does_once_a_seed():
    for kind, n in (("zero", 1), ("noise", 4), ("shuffle", 4)):
        cells, _ = plan(100, [(ANIMAL, range(9), {})], top(kind=kind, doses=(0.05,), n_seeds=4, seed=7))
        seeds = {selection: [] for selection in ("top", "random", "matched")}
        for cell in cells:
            seeds[cell.selection].append(cell.seed)
        assert seeds == {"top": list(range(7, 7 + n)), "random": [7, 8, 9, 10], "matched": [7, 8, 9, 10]}


def test_controls_are_those_asked_for():
    options = {"doses": (0.05,), "n_seeds": 2}
    for controls in (("random",), ("matched",), ("matched", "random"), ()):
        cells, _ = plan(100, [(ANIMAL, range(9), {})], top(controls=controls, **options))
        assert {cell.selection for cell in cells} == {"top", *controls}


def test_nonfunctional_neurons_are_drawn_from_their_pool_alone():
    settings = PerturbationSettings(partition="1", doses=(0.05,), n_seeds=3)
    cells, _ = plan(100, [(ANIMAL, range(9), {"n_functional": 4})], settings, nonfunctional=range(50, 60))
    drawn = [cell.rows.tolist() for cell in cells if cell.selection == "nonfunctional"]
    assert len(drawn) == 3
    assert all(set(rows) <= set(range(50, 60)) for rows in drawn)
    assert {cell.n_functional for cell in cells if cell.selection == "functional"} == {4}
    assert {cell.n_functional for cell in cells if cell.selection != "functional"} == {None}


def test_without_nonfunctional_neurons_that_control_is_not_there():
    settings = PerturbationSettings(partition="1", doses=(0.05,), n_seeds=3)
    cells, _ = plan(100, [(ANIMAL, range(9), {"n_functional": 4})], settings, nonfunctional=[])
    assert {cell.selection for cell in cells} == {"functional", "random", "matched"}


def test_what_has_too_few_neurons_for_a_dose_is_excluded_from_it_and_reported():
    sources = [(ANIMAL, range(60), {}), (WATER, range(5), {})]
    cells, notes = plan(100, sources, top(doses=(0.05, 0.6), n_seeds=2))
    found = kinds_of(cells)
    assert found["top", "water", 0.05, 5] == found["top", "animal", 0.05, 5] == found["top", "animal", 0.6, 60] == 1
    # 40 are left to match 60 with, and nothing of water is run where its own neurons are too few.
    assert {key for key in found if key[2] == 0.6} == {("top", "animal", 0.6, 60), ("random", "*", 0.6, 60)}
    assert notes == [
        "2 matched sets have fewer neurons than a dose of 0.6 takes, and are excluded from it",
        "1 top sets have fewer neurons than a dose of 0.6 takes, and are excluded from it",
    ]


def test_sources_that_too_few_others_do_not_overlap_have_no_control_other_which_is_reported():
    options = top(doses=(0.05,), n_seeds=2, controls=("random",))
    chain = [(("task", name), [*range(4 * place, 4 * place + 5)], {}) for place, name in enumerate("abc")]
    assert plan(100, chain, options)[1] == []  # one of five is shared, as chance may have it
    sources = [chain[0], (("task", "d"), range(50, 55), {}), (("task", "twin"), [0, 1, 2, 90, 91], {})]
    apart = "of the other sources, fewer than two share no more of its neurons than sets drawn at random do"
    assert plan(100, sources, options)[1] == [
        f"at a dose of 0.05 control other is left out of task/a, task/twin: {apart}"
    ]


def test_matched_sets_of_other_energy_are_not_compared_and_named():
    # Ten strong neurons, which nothing is like: what is nearest has a ninth of their energy.
    energy = np.array([100.0] * 10 + [10 + place / 100 for place in range(90)])
    sources = [(ANIMAL, range(10), {}), (WATER, range(40, 50), {})]
    cells, notes = plan(100, sources, top(doses=(0.1,), n_seeds=3), energy=energy)
    assert Counter(cell.function for cell in cells if cell.selection == "matched") == {"water": 3}
    assert notes == [
        "at a dose of 0.1 3 of 3 matched sets of task/animal are not compared: sets hold 0.11 to 0.11 times its "
        "neurons' energy, and two at least must be within a factor of 1.25"
    ]


def test_no_single_matched_set_is_left():
    # Its one neuron is matched with one of ten, of which two are within the bound: hardly two of three sets are.
    energy = np.array([10.0, *[9.0] * 2, *[30.0] * 5, *[3.0] * 3, *[0.1] * 89])
    for seed in range(20):
        cells, notes = plan(100, [(ANIMAL, [0], {})], top(doses=(0.01,), n_seeds=3, seed=seed), energy=energy)
        matched = [energy[cell.rows].sum() for cell in cells if cell.selection == "matched"]
        assert len(matched) != 1
        assert set(matched) <= {9.0}
        assert len(notes) == (len(matched) < 3)


def test_neurons_without_energy_are_not_matched_with_others():
    energy = np.array([0.0] * 10 + [1.0] * 90)
    cells, notes = plan(100, [(ANIMAL, range(10), {})], top(doses=(0.1,), n_seeds=2), energy=energy)
    assert {cell.selection for cell in cells} == {"top", "random"}
    assert "sets hold inf to inf times its neurons' energy" in notes[0]


def test_a_matched_set_that_takes_another_module_says_whose():
    sources = [(ANIMAL, range(10), {}), (WATER, range(10, 20), {})]
    cells, notes = plan(20, sources, top(doses=(0.5,), n_seeds=2))
    held = {cell.key: most_held(cells, cell) for cell in cells if cell.selection == "matched" and cell.seed == 0}
    assert held["task", "animal", "matched", 0] == ("task/water", 1.0)
    assert held["task", "water", "matched", 0] == ("task/animal", 1.0)
    assert notes == [
        "at a dose of 0.5 matched sets hold neurons of other sources: that of task/animal with seed 0 holds 100% of "
        "task/water, of task/animal with seed 1 holds 100% of task/water, of task/water with seed 0 holds 100% of "
        "task/animal, of task/water with seed 1 holds 100% of task/animal"
    ]


@pytest.mark.parametrize(
    ("sources", "most"), [([(ANIMAL, range(5), {}), (WATER, range(7), {})], 7), ([], 0)], ids=["few", "none"]
)
def test_a_study_without_a_cell_is_refused(sources, most):
    with pytest.raises(AnalysisError, match=f"for a dose: the most is {most} of 100 neurons$"):
        plan(100, sources, top(doses=(0.5,)))


def test_a_query_without_doses_takes_all_its_rows_of_each_source_with_controls_of_as_many():
    sources = [(ANIMAL, range(10), {}), (WATER, range(4), {})]
    cells, _ = plan(100, sources, PerturbationSettings(query="q", n_seeds=2))
    assert kinds_of(cells) == {
        ("query", "animal", 0.1, 10): 1, ("query", "water", 0.04, 4): 1,
        ("matched", "animal", 0.1, 10): 2, ("matched", "water", 0.04, 4): 2,
        ("random", "*", 0.1, 10): 2, ("random", "*", 0.04, 4): 2,
    }  # fmt: skip


def test_clamped_controls_take_over_the_levels_place_by_place():
    source = (ANIMAL, [5, 3, 9], {"levels": np.array([0.5, 0.3, 0.9])})
    cells, _ = plan(100, [source], PerturbationSettings(query="q", kind="clamp", doses=(0.02,), n_seeds=2))
    assert [(cell.selection, cell.levels.tolist()) for cell in cells] == [
        ("query", [0.5, 0.3]), ("matched", [0.5, 0.3]), ("matched", [0.5, 0.3])
    ]  # fmt: skip


def test_native_experts_are_perturbed_whole_at_every_dose():
    settings = PerturbationSettings(partition="1", kind="route-away", doses=(0.01, 0.3, 0.5), n_seeds=2)
    ranking = [*range(24, 32), *range(8), *range(16, 24), *range(8, 16)]
    cells, _ = plan(64, [(ANIMAL, ranking, {"n_functional": 8})], settings, unit_size=8)
    assert {(cell.dose, len(cell.rows)) for cell in cells} == {(0.01, 8), (0.3, 16), (0.5, 32)}
    for cell in cells:
        experts = cell.rows.reshape(-1, 8)
        assert (experts == experts[:, :1] + np.arange(8)).all()
        assert (experts[:, 0] % 8 == 0).all()
    assert sum(cell.selection == "matched" for cell in cells) == 6


def test_a_wider_bound_of_energy_keeps_more_matched_sets():
    energy = np.array([100.0] * 10 + [10 + place / 100 for place in range(90)])
    for ratio, n_kept in ((9, 0), (10, 2)):
        options = top(doses=(0.1,), n_seeds=2, energy_ratio=ratio)
        cells, notes = plan(100, [(ANIMAL, range(10), {})], options, energy=energy)
        assert sum(cell.selection == "matched" for cell in cells) == n_kept
        assert len(notes) == (not n_kept)


WRONG = {
    **{
        f"energy ratio of {ratio}": (
            {"is_top": True, "energy_ratio": ratio}, f"energy_ratio is {ratio}; it must be a number of at least 1"
        )
        for ratio in (0.9, float("inf"), float("nan"))
    },
    "no source": ({}, "a study perturbs neurons of a partition, of a query, or top neurons: one of the three"),
    "two sources": (
        {"is_top": True, "query": "q"},
        "a study perturbs neurons of a partition, of a query, or top neurons: one of the three",
    ),
    "clamp of top": (
        {"is_top": True, "kind": "clamp"}, "the kind clamp holds neurons at a column value, which only a query yields"
    ),
    "route-away of top": (
        {"is_top": True, "kind": "route-away"},
        "the kind route-away takes whole native experts, which top neurons are not",
    ),
    "route-only of top": (
        {"is_top": True, "kind": "route-only"},
        "the kind route-only takes whole native experts, which top neurons are not",
    ),
    "scale of zero": (
        {"is_top": True, "kind": "zero", "scale": 2.0},
        "the kind zero has no scale, 2.0 was given; noise and shuffle have one",
    ),
    "scale of nan": (
        {"is_top": True, "kind": "noise", "scale": float("nan")},
        "a perturbation of scale nan is not possible; scales are numbers of at least 0",
    ),
    "nonfunctional of top": (
        {"is_top": True, "controls": ("nonfunctional",)},
        "the control nonfunctional is not possible: it draws from a partition's experts, and this study has none",
    ),
    "random of clamp": (
        {"query": "q", "kind": "clamp", "controls": ("random",)},
        "the control random is not possible: all sources share it, and each has values of its own to be clamped to",
    ),
    "families of a query": (
        {"query": "q", "families": ("task",)},
        "families and functions choose among those of a run; the query itself names its own",
    ),
    "ranking of a query": (
        {"query": "q", "ranking": "predictivity"},
        "a ranking orders top neurons and those of experts; a query orders its own",
    ),
    "functions of a query": (
        {"query": "q", "functions": ("task/animal",)},
        "families and functions choose among those of a run; the query itself names its own",
    ),
    **{
        f"dose of {dose}": (
            {"is_top": True, "doses": (0.1, dose)},
            f"a dose is {dose}; doses are shares of neurons, above 0 and up to 1",
        )
        for dose in (0.0, -0.1, 1.5, float("nan"))
    },
    **{
        f"{name} of {value}": ({"is_top": True, name: value}, f"{name} is {value}; it must be at least {least}")
        for name, value, least in (
            ("n_seeds", 1, 2), ("seed", -1, 0), ("n_texts", 0, 1), ("batch_tokens", 0, 1), ("n_bootstrap", 0, 1),
            ("n_permutations", 0, 1),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_cannot_be_are_refused(name):
    arguments, message = WRONG[name]
    with pytest.raises(AnalysisError) as caught:
        PerturbationSettings(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "nought"}, "no kind 'nought'"),
        ({"readout": "lens"}, "no readout 'lens'"),
        ({"ranking": "rarity"}, "no ranking 'rarity'"),
        ({"controls": ("matches",)}, "no control 'matches'; did you mean 'matched'?"),
    ],
    ids=["kind", "readout", "ranking", "control"],
)
def test_names_that_are_not_there_are_refused(arguments, message):
    with pytest.raises(UnknownNameError) as caught:
        PerturbationSettings(is_top=True, **arguments)
    assert str(caught.value).startswith(message)


def test_order_and_repetition_mean_nothing():
    one = top(doses=(0.2, 0.1, 0.2), layers=(1, 0, 1), functions=("b/b", "a/a"), controls=("random", "matched"))
    assert one == top(doses=(0.1, 0.2), layers=(0, 1), functions=("a/a", "b/b"), controls=("matched", "random"))
    assert one.doses == (0.1, 0.2)


def test_defaults_are_the_papers():
    assert top().doses == (0.02, 0.06, 0.125)
    assert PerturbationSettings(query="q").doses is None
    assert (top(kind="shuffle").factor, top(kind="noise").factor, top(kind="shuffle", scale=0.0).factor) == (4, 1, 0)
    assert len(top().seeds) == 5
    assert PerturbationSettings(partition="1").controls_run == ("random", "matched", "nonfunctional")
    assert top().controls_run == ("random", "matched")
    assert PerturbationSettings(query="q", kind="clamp").controls_run == ("matched",)
