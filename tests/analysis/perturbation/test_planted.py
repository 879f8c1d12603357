"""Where a known set of neurons alone carries a function, a study finds that; where neurons are drawn, it finds nothing.

The model is that of the fixture `planted`: four functions, each carried by 20 of 800 neurons.
"""

import random
import shutil

import polars as pl
import pytest

from neuronlake.analysis.perturbation.settings import PerturbationSettings
from neuronlake.analysis.perturbation.study import study_perturbation
from neuronlake.queries.database import Database
from neuronlake.schema.store import Store

from .conftest import PLANTED

DOSE = 20 / 800
N_SETS, N_DRAWN = 50, 100


@pytest.fixture(scope="module")
def store(planted, tmp_path_factory):
    return Store(shutil.copytree(planted[1], tmp_path_factory.mktemp("found") / "store"))


@pytest.fixture(scope="module")
def asked(planted, store):
    """Return a function that makes a study and asks SQL of its effects."""

    def ask(question, **settings):
        defaults = {"n_bootstrap": 500, "n_permutations": 999}
        report = study_perturbation(
            str(planted[0]), store=store.path, settings=PerturbationSettings(**defaults | settings)
        )
        effects = f"(select * from perturbation_effects where perturbation_id = '{report.perturbation_id}')"
        with Database(store) as database:
            return database.sql(question.format(effects=effects, study=report.perturbation_id)).pl()

    return ask


@pytest.fixture(scope="module", params=["top", "functional"])
def chosen(request, store):
    if request.param == "top":
        return {"is_top": True}
    with Database(store) as database:
        return {"partition": database.sql("select partition_id from partitions").pl().item()}


def test_a_planted_module_is_chosen_whole(asked, chosen):
    rows = asked(
        "select source_function, layer, list_sort(list(neuron)) as neurons from perturbed_neurons "
        "where perturbation_id = '{study}' and selection in ('top', 'functional') group by all order by all",
        doses=(DOSE,),
        **chosen,
    ).rows()
    functions = ("colour", "water", "animal", "royal")
    assert sorted(rows) == sorted(
        (function, 1, list(range(20 * place, 20 * place + 20))) for place, function in enumerate(functions)
    )


def test_neurons_of_functional_experts_are_counted_up_to_the_dose(asked, chosen):
    rows = asked(
        "select distinct dose, n_neurons, n_functional from perturbations "
        "where perturbation_id = '{study}' and selection in ('top', 'functional') order by all",
        doses=(DOSE / 2, DOSE),
        **chosen,
    ).rows()
    assert rows == [(dose, n, n if "partition" in chosen else None) for dose, n in ((DOSE / 2, 10), (DOSE, 20))]


def test_ablation_of_a_planted_module_is_found_on_target(asked, chosen):
    rows = asked(
        "select * from {effects} where is_on_target and selection in ('top', 'functional')", doses=(DOSE,), **chosen
    )
    controls = {"none", "other", "random", "matched"} | ({"nonfunctional"} if "partition" in chosen else set())
    assert set(rows["control"]) == controls
    assert rows.height == 4 * len(controls)
    for row in rows.to_dicts():
        # Balanced accuracy falls from 1 to nearly chance.
        assert row["effect"] > 0.4
        assert row["control_effect"] < 0.1
        assert row["difference_low"] > 0.3
        assert row["q_value"] <= 0.01
        assert row["is_significant"]
        assert row["selectivity"] > 0.4
        assert row["selectivity_low"] > 0.3
        assert row["is_selective"]


def test_ablation_of_a_planted_module_is_not_found_off_target(asked, chosen):
    rows = asked(
        "select * from {effects} where not is_on_target and selection in ('top', 'functional')", doses=(DOSE,), **chosen
    )
    assert rows.height >= 4 * 3 * 4
    assert not rows["is_significant"].any()
    assert rows["p_value"].min() > 0.05
    assert rows["effect"].abs().max() < 0.05


def test_half_a_module_does_little_as_the_other_half_carries_on(asked, chosen):
    rows = asked(
        "select * from {effects} where is_on_target and control = 'none' and selection in ('top', 'functional')",
        doses=(DOSE / 2, DOSE),
        **chosen,
    )
    by_dose = dict(rows.group_by("dose").agg(pl.col("effect").mean()).rows())
    assert by_dose[DOSE / 2] < 0.1
    assert by_dose[DOSE] > 0.4


def test_control_sets_say_whose_neurons_they_hold_and_how_much_energy(asked):
    settings = {"is_top": True, "doses": (DOSE,), "controls": ("matched", "random")}
    held = """
        with cells as (
            select distinct on (cell_id) * from perturbations where perturbation_id = '{study}' and selection <> 'none'
        ),

        shared as (
            select cells.cell_id, own.source_function, count(*) / 20 as share
            from cells
            inner join perturbed_neurons as held
                using (perturbation_id, source_family, source_function, selection, seed)
            inner join perturbed_neurons as own using (perturbation_id, stack, layer, neuron)
            where own.selection = 'top' and own.source_function <> cells.source_function
            group by all
        )

        select
            selection,
            overlap_share,
            coalesce((select max(share) from shared where cell_id = cells.cell_id), 0) as most,
            overlap_share is null or split_part(overlap_source, '/', 2) in (
                select source_function from shared where cell_id = cells.cell_id and share = overlap_share
            ) as is_named
        from cells
    """
    rows = asked(held, **settings)
    assert set(rows["selection"]) == {"top", "matched", "random"}
    assert rows["overlap_share"].fill_null(0).to_list() == pytest.approx(rows["most"].to_list())
    assert rows["is_named"].all()
    assert rows.filter(selection="matched")["overlap_share"].max() >= 0.4  # modules are like each other

    ratios = """
        with shares as (
            select source_function, selection, avg(energy_share) as energy_share
            from perturbations
            where perturbation_id = '{study}' and selection <> 'none'
            group by all
        )

        select effects.control, control_energy_ratio, control.energy_share / effects.energy_share as expected
        from {effects} as effects
        inner join shares as control
            on control.selection = effects.control and control.source_function in (effects.source_function, '*')
        where effects.selection = 'top'
    """
    rows = asked(ratios, **settings)
    assert set(rows["control"]) == {"matched", "random"}
    assert rows["control_energy_ratio"].to_list() == pytest.approx(rows["expected"].to_list())
    assert rows.filter(control="matched")["control_energy_ratio"].is_between(1 / 1.25, 1.25).all()


# Each holds a module of its own and its neighbour's, whose effect hides behind that of the neighbour; two hold none.
RING = {name: (20 * place, 20 * ((place + 1) % 4)) for place, name in enumerate(PLANTED)}
RING |= {"noise/one": (100, 120), "noise/two": (140, 160)}


def test_sources_that_share_a_module_are_no_control_of_each_other(asked):
    values = ", ".join(
        f"('{name}', {start + place})" for name, starts in RING.items() for start in starts for place in range(20)
    )
    rows = asked(
        "select * from {effects} where is_on_target and control = 'other' order by source_function",
        query="select 'encoder' as stack, 1 as layer, neuron, split_part(name, '/', 1) as family, "
        f"split_part(name, '/', 2) as function from (values {values}) as ring(name, neuron)",
        controls=(),
    )
    assert rows["is_significant"].to_list() == [True] * 4
    assert rows["n_control_sets"].to_list() == [3] * 4  # the one opposite, and two without a module
    for row in rows.to_dicts():
        assert row["control_overlap"] == 0
        assert row["control_effect"] < 0.05


@pytest.mark.slow
def test_drawn_neurons_have_effects_but_hardly_ever_larger_ones_than_other_drawn_neurons(asked):
    draw = random.Random(0)
    rows = [
        f"({place}, {neuron // 400}, {neuron % 400}, '{drawn}')"
        for drawn in range(N_SETS)
        for place, neuron in enumerate(draw.sample(range(800), N_DRAWN))
    ]
    query = (
        "select 'encoder' as stack, layer, neuron, 'drawn' as family, function "
        f"from (values {', '.join(rows)}) as drawn(place, layer, neuron, function) order by function, place"
    )
    found = asked(
        "select control, count(*) as n, avg((p_value <= 0.05)::int) as share, avg((q_value <= 0.05)::int) as share_q, "
        "from {effects} where selection = 'query' group by all",
        query=query, kind="noise", scale=6.0, controls=("random",),
    )  # fmt: skip
    shares = {control: (n, share, share_q) for control, n, share, share_q in found.rows()}
    assert {n for n, _, _ in shares.values()} == {4 * N_SETS}
    assert shares["none"][1] > 0.5
    assert shares["random"][1] <= 0.08
    assert shares["other"][1] <= 0.08
    assert shares["random"][2] == shares["other"][2] == 0
