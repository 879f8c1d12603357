"""The cells of a study: the neurons that are ablated together in one pass over the texts."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...schema.vocabulary import Selection
from ..effects.contrast import apart, overlap
from .population import Population
from .settings import SHARED, PerturbationSettings
from .sources import Ranking

# A matched set that holds this share or more of another source's neurons is named.
_MUCH = 0.5


def rankings(
    population: Population,
    sources: Sequence[Ranking],
    nonfunctional: NDArray[np.int64] | None,
    settings: PerturbationSettings,
) -> list[Ranking]:
    """Return the rankings of controls that all sources share, then each source's own and its matched controls.

    The control nonfunctional draws from `nonfunctional`, rows of the population; it is None without experts.
    """
    ranked = []
    for control, pool in (("random", np.arange(len(population))), ("nonfunctional", nonfunctional)):
        if control in settings.controls_run and pool is not None and len(pool):
            ranked += [
                Ranking(SHARED, SHARED, control, population.draw_random(pool, seed), seed=seed)
                for seed in settings.seeds
            ]
    for source in sources:
        ranked += [replace(source, seed=seed) for seed in (settings.seeds if settings.is_drawn else settings.seeds[:1])]
        if "matched" in settings.controls_run:
            # The levels of the kind clamp go with the rank.
            matched = replace(source, selection="matched", n_functional=None)
            ranked += [
                replace(matched, rows=population.draw_matched(source.rows, seed), seed=seed) for seed in settings.seeds
            ]
    return ranked


def plan_cells(
    population: Population,
    ranked: Sequence[Ranking],
    settings: PerturbationSettings,
    note: Callable[[str], None],
    *,
    n_least: int = 0,
) -> list[Ranking]:
    """Return the cells of a study: own rankings cut to every dose, then controls cut to the doses of own cells.

    A ranking that is too short for a dose has no such cell, and neither has one that would leave a layer with some but
    fewer than `n_least` units; both are reported to `note`, one line for each selection and dose. So are, by dose, the
    sources that the control ``other`` leaves out, and the matched sets that hold half or more of another source's
    neurons. An `AnalysisError` says if no source has enough neurons for any dose.
    """
    cells: list[Ranking] = []
    short: Counter[tuple[str, float]] = Counter()
    narrow: Counter[tuple[str, float]] = Counter()

    def add(ranking: Ranking, dose: float) -> None:
        n_neurons = population.n_neurons(dose)
        if n_neurons > len(ranking.rows):
            short[ranking.selection, dose] += 1
        elif np.unique_counts(population.layer[ranking.rows[:n_neurons]]).counts.min() < n_least * population.unit_size:
            narrow[ranking.selection, dose] += 1
        else:
            cells.append(ranking.cut(dose, n_neurons))

    own = [ranking for ranking in ranked if ranking.selection == settings.selection]
    for ranking in own:
        for dose in settings.doses or (len(ranking.rows) / len(population),):
            add(ranking, dose)
    if not cells and narrow:
        raise AnalysisError(
            f"no source has, in each of its layers, the {n_least} experts that a token is sent to; take one layer, or "
            "a larger dose"
        )
    if not cells:
        most = max((len(ranking.rows) for ranking in own), default=0)
        raise AnalysisError(
            f"no source has neurons enough for a dose: the most is {most:,} of {len(population):,} neurons"
        )
    doses = dict.fromkeys(cell.dose for cell in cells)
    needed = {(cell.family, cell.function, cell.dose) for cell in cells} | {(SHARED, SHARED, dose) for dose in doses}
    for ranking in ranked:
        for dose in doses:
            if ranking.selection != settings.selection and (ranking.family, ranking.function, dose) in needed:
                add(ranking, dose)
    for (selection, dose), n_short in sorted(short.items()):
        note(f"{n_short:,} {selection} sets have fewer neurons than a dose of {dose:g} takes, and are excluded from it")
    for (selection, dose), n_narrow in sorted(narrow.items()):
        note(
            f"{n_narrow:,} {selection} sets have, at a dose of {dose:g}, a layer with fewer than the {n_least} experts "
            "that a token is sent to, and are excluded from it"
        )
    for dose in doses:
        sources = [cell for cell in cells if (*cell.key[2:], cell.dose) == (settings.selection, settings.seed, dose)]
        n_apart = apart([source.rows for source in sources], dose).sum(axis=1)
        alone = [f"{source.family}/{source.function}" for source, n in zip(sources, n_apart, strict=True) if n < 2]
        if alone and len(sources) > 2:
            note(
                f"at a dose of {dose:g} control other is left out of {', '.join(alone)}: of the other sources, fewer "
                "than two share no more of its neurons than sets drawn at random do"
            )
        held = [(cell, most_held(cells, cell)) for cell in cells if (cell.selection, cell.dose) == ("matched", dose)]
        named = [
            f"{cell.family}/{cell.function} with seed {cell.seed} holds {share:.0%} of {source}"
            for cell, (source, share) in held
            if share >= _MUCH
        ]
        if named:
            note(f"at a dose of {dose:g} matched sets hold neurons of other sources: that of {', of '.join(named)}")
    return cells


def most_held(cells: Sequence[Ranking], cell: Ranking) -> tuple[str, float]:
    """Return the other source, as family/function, of whose neurons of the same dose a cell holds most; their share."""
    sources = {
        each.key[:2]: each.rows
        for each in cells
        if each.selection in get_args(Selection) and each.dose == cell.dose and each.key[:2] != cell.key[:2]
    }
    shares = overlap(list(sources.values()), [cell.rows])[:, 0]
    return max(zip(shares.tolist(), map("/".join, sources), strict=True), default=(0.0, ""))[::-1]


def comparable(
    population: Population, cells: Sequence[Ranking], settings: PerturbationSettings, note: Callable[[str], None]
) -> list[bool]:
    """Return for each cell whether its effect is compared: matched sets must be like their source in energy.

    Where fewer than two sets of a source and dose are within the ratio of the settings, none is compared: a single set
    does not show how sets differ. What is left out is reported to `note`, one line for each source and dose.
    """
    energy = [float(population.energy[cell.rows].sum()) for cell in cells]
    own = {
        (cell.family, cell.function, cell.dose): energy[place]
        for place, cell in enumerate(cells)
        if cell.selection == settings.selection
    }
    most = settings.energy_ratio
    is_compared = [True] * len(cells)
    matched: dict[tuple[str, str, float], dict[int, float]] = {}
    for place, cell in enumerate(cells):
        if cell.selection == "matched":
            key = cell.family, cell.function, cell.dose
            ratio = energy[place] / own[key] if own[key] else np.inf if energy[place] else 1.0
            matched.setdefault(key, {})[place] = ratio
    for (family, function, dose), ratios in matched.items():
        alike = [place for place, ratio in ratios.items() if 1 / most <= ratio <= most]
        excluded = ratios.keys() - (alike if len(alike) > 1 else [])
        for place in excluded:
            is_compared[place] = False
        if excluded:
            note(
                f"at a dose of {dose:g} {len(excluded)} of {len(ratios)} matched sets of {family}/{function} are not "
                f"compared: sets hold {min(ratios.values()):.2f} to {max(ratios.values()):.2f} times its neurons' "
                f"energy, and two at least must be within a factor of {most:g}"
            )
    return is_compared
