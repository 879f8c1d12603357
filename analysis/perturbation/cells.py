"""The cells of a study: which neurons are perturbed in each pass over the texts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...errors import AnalysisError
from .controls import draw_matched, draw_random
from .population import Population
from .settings import SHARED, PerturbationSettings
from .sources import Source

__all__ = ["Cell", "Ranking", "plan_cells", "rankings"]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Neurons in the order in which doses take them in: a source's own, or those of a control.

    Parameters
    ----------
    family, function
        The source, `SHARED` of a control that all share.
    selection
        How they were chosen: functional, top, query, random, matched or nonfunctional.
    seed
        Seed of the draw and of the perturbation.
    rows
        Rows of the population. [ranked]
    levels, n_functional
        As in `Source`.
    """

    family: str
    function: str
    selection: str
    seed: int
    rows: NDArray[np.int64]
    levels: NDArray[np.float64] | None = None
    n_functional: int | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One perturbation of one set of neurons.

    Parameters
    ----------
    ranking
        What it is of.
    dose
        Share of the studied neurons.
    n_neurons
        How many are perturbed, the first of the ranking.
    """

    ranking: Ranking
    dose: float
    n_neurons: int

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the population. [n_neurons]."""
        return self.ranking.rows[: self.n_neurons]

    @property
    def levels(self) -> NDArray[np.float64] | None:
        """What its neurons are held at, None where the population says. [n_neurons]."""
        return None if self.ranking.levels is None else self.ranking.levels[: self.n_neurons]


def rankings(
    population: Population,
    sources: Sequence[Source],
    nonfunctional: NDArray[np.int64] | None,
    settings: PerturbationSettings,
) -> list[Ranking]:
    """Return the sources' own neurons and the controls asked for, those all share first.

    Parameters
    ----------
    population
        The studied neurons.
    sources
        The sources.
    nonfunctional
        Neurons of experts that are functional for nothing, None where there are no experts. [neurons]
    settings
        What defines the study.
    """
    wanted = settings.controls_run
    every = np.arange(len(population))
    found = []
    pools = {"random": every, "nonfunctional": nonfunctional}
    for control, pool in pools.items():
        if control in wanted and pool is not None and len(pool):
            found += [
                Ranking(SHARED, SHARED, control, seed, draw_random(population, pool, seed)) for seed in settings.seeds
            ]
    for source in sources:
        own = Ranking(
            source.family,
            source.function,
            settings.selection,
            settings.seed,
            source.ranking,
            source.levels,
            source.n_functional,
        )
        found += [replace(own, seed=seed) for seed in (settings.seeds if settings.is_drawn else settings.seeds[:1])]
        if "matched" in wanted:
            # Values to be clamped to go with the place in the ranking.
            found += [
                replace(
                    own,
                    selection="matched",
                    seed=seed,
                    rows=draw_matched(population, source.ranking, seed),
                    n_functional=None,
                )
                for seed in settings.seeds
            ]
    return found


def plan_cells(
    population: Population, found: Sequence[Ranking], settings: PerturbationSettings, note: Callable[[str], None]
) -> list[Cell]:
    """Return the cells of a study, control cells at the doses of own cells alone.

    Parameters
    ----------
    population
        The studied neurons.
    found
        Own neurons and controls.
    settings
        What defines the study.
    note
        Told what could not be made, in one line each.

    Raises
    ------
    AnalysisError
        If no source has neurons enough for a dose.
    """
    own = [each for each in found if each.selection == settings.selection]
    cells = []
    doses: dict[float, int] = {}
    short: dict[tuple[str, float], int] = {}
    for each in own:
        for dose, n in _doses(population, each, settings):
            if n > len(each.rows):
                short[settings.selection, dose] = short.get((settings.selection, dose), 0) + 1
                continue
            doses[dose] = n
            cells.append(Cell(each, dose, n))
    if not cells:
        most = max((len(each.rows) for each in own), default=0)
        raise AnalysisError(
            f"no source has neurons enough for a dose: the most is {most:,} of {len(population):,} neurons"
        )
    made = {(cell.ranking.family, cell.ranking.function, cell.dose) for cell in cells}
    for each in found:
        if each.selection == settings.selection:
            continue
        for dose, n in doses.items():
            if each.family != SHARED and (each.family, each.function, dose) not in made:
                continue
            if n > len(each.rows):
                short[each.selection, dose] = short.get((each.selection, dose), 0) + 1
                continue
            cells.append(Cell(each, dose, n))
    for (selection, dose), n_short in sorted(short.items()):
        note(f"{n_short:,} {selection} sets have fewer neurons than a dose of {dose:g} takes, and are left out there")
    return cells


def _doses(population: Population, own: Ranking, settings: PerturbationSettings) -> Iterator[tuple[float, int]]:
    if settings.doses is None:
        yield len(own.rows) / len(population), len(own.rows)
        return
    for dose in settings.doses:
        yield dose, population.n_neurons(dose)
