"""Six planted modules that share neurons with their neighbours: all are found beside sources they do not overlap."""

import numpy as np
import polars as pl
import pytest

from neuronlake.analysis.effects import contrast
from neuronlake.analysis.perturbation.settings import PerturbationSettings
from neuronlake.analysis.perturbation.study import study_perturbation
from neuronlake.queries.database import Database

from .conftest import PLANTED

WORDS_OF = PLANTED | {"task/trade": ("money", "song", "stone"), "task/shine": ("light", "mat", "swam")}
OWN, SHARED = 2, 6
"""Neurons of a module that serve no other, and that serve the next one in a ring too."""
STEP, N = OWN + SHARED, len(WORDS_OF)
MODULES = [[(STEP * place + neuron) % (STEP * N) for neuron in range(-SHARED, STEP)] for place in range(N)]


@pytest.fixture(scope="module")
def asked(measured_plant):
    """Return a function that ablates each module and asks SQL of the study."""
    folder, store = measured_plant(WORDS_OF, MODULES)
    rows = ", ".join(f"('{name}', {each})" for name, module in zip(WORDS_OF, MODULES, strict=True) for each in module)
    query = (
        "select 'encoder' as stack, 1 as layer, neuron, split_part(name, '/', 1) as family, "
        f"split_part(name, '/', 2) as function from (values {rows}) as ring(name, neuron)"
    )

    def ask(question: str, n_permutations: int = 999) -> pl.DataFrame:
        settings = PerturbationSettings(query=query, controls=(), n_bootstrap=100, n_permutations=n_permutations)
        report = study_perturbation(str(folder), store=store, settings=settings)
        with Database(store) as database:
            return database.sql(f"{question} and perturbation_id = ? order by all", [report.perturbation_id]).pl()

    return ask


ON_TARGET = "select * from perturbation_effects where is_on_target and control = '{}'"


def test_ablation_of_each_module_destroys_its_function(asked):
    rows = asked(ON_TARGET.format("none"))
    assert rows["is_significant"].to_list() == [True] * N
    assert rows["effect"].min() > 0.15


def test_all_six_are_found_beside_sources_that_they_do_not_overlap(asked):
    rows = asked(ON_TARGET.format("other"))
    assert rows["is_significant"].to_list() == rows["is_selective"].to_list() == [True] * N
    assert rows["n_control_sets"].to_list() == [3] * N
    assert rows["control_overlap"].to_list() == [0.0] * N
    shares = asked("select distinct source_function, overlap_share from perturbations where selection = 'query'")
    assert shares["overlap_share"].to_list() == pytest.approx([SHARED / (STEP + SHARED)] * N)


def test_beside_all_others_the_neighbours_hide_most(asked, monkeypatch):
    monkeypatch.setattr(contrast, "apart", lambda neurons, _: ~np.eye(len(neurons), dtype=np.bool_))
    rows = asked(ON_TARGET.format("other"), n_permutations=998)
    assert rows["control_overlap"].to_list() == pytest.approx([2 * SHARED / (STEP + SHARED) / 5] * N)
    assert rows["is_significant"].sum() <= 2
