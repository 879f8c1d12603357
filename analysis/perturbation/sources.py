"""Which neurons a study ablates: of each source, a function, and of controls, in their order; and the cells of both.

A cell is the neurons that are ablated together in one pass over the texts.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...progress import Progress
from ...queries.database import Database
from ...schema.vocabulary import PerturbationKind, Selection
from ..effects.contrast import apart, overlap
from ..neuron_rows import KEYS, read_neurons
from .population import Population
from .settings import LEVEL_COLUMNS, SHARED, Functions, PerturbationSettings
from .study import Request, measured_functions, wanted_functions

FUNCTIONAL_P = 0.001
"""An expert is functional where its hypergeometric p is at most this: the paper's level."""

_Rows = NDArray[np.int64]  # of the population
_Note = Callable[[str], None]  # told of what is left out
_MUCH = 0.5  # a matched set that holds this share or more of another source's neurons is named


@dataclass(frozen=True, slots=True)
class Ranking:
    """Neurons in the order in which they are ablated: a source's own or a control's, all of them or those of a dose."""

    family: str  # the source; `SHARED`, as the function, for a control that all sources share
    function: str
    selection: str  # functional, top or query; or the control: random, matched or nonfunctional
    rows: _Rows  # [ranked]
    levels: NDArray[np.float64] | None = None  # as in `LEVEL_COLUMNS`; None where the population has them [ranked]
    n_functional: int | None = None  # how many, the first, are in experts functional for the source; None without any
    seed: int = 0  # seed of the draw and of the ablation
    dose: float = 0.0  # share of the population, for a cell; 0 for a ranking that is not cut to a dose

    @property
    def source(self) -> tuple[str, str]:
        """Family and function."""
        return self.family, self.function

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Family, function, selection and seed."""
        return self.family, self.function, self.selection, self.seed

    def cut(self, dose: float, n_neurons: int) -> "Ranking":
        """Return the first `n_neurons`: the cell of a dose."""
        levels = None if self.levels is None else self.levels[:n_neurons]
        n_functional = None if self.n_functional is None else min(self.n_functional, n_neurons)
        return replace(self, rows=self.rows[:n_neurons], levels=levels, n_functional=n_functional, dose=dose)


_Sources = tuple[list[Ranking], _Rows | None]  # and the neurons of experts that are functional for nothing


def find_sources(request: Request, population: Population, functions: Functions, progress: Progress) -> _Sources:
    """Return the sources, and the neurons of experts that are functional for nothing, None without experts."""
    database, settings, partition_id = request.database, request.settings, request.partition_id
    if settings.query is not None:
        return query_sources(database, settings.query, population, settings.kind), None
    measured = set(measured_functions(database, request.run.run_id))
    readable = [function for function in functions if function in measured]
    wanted = wanted_functions(readable, settings, "the functions read out")
    n_most = population.n_neurons(max(settings.doses or (1.0,)))
    sources, nonfunctional = scored_sources(request, population, wanted, n_most)
    if partition_id is None:
        return sources, nonfunctional
    functional = [source for source in sources if source.n_functional]
    if not functional:
        raise AnalysisError(f"partition {partition_id} has no expert that is functional for a function read out")
    if len(functional) < len(sources):
        lacking = f"{len(sources) - len(functional):,} of {len(sources):,} functions"
        progress.note(f"{lacking} have no functional expert, and are no sources")
    return functional, nonfunctional


def scored_sources(request: Request, population: Population, functions: Functions, n_most: int) -> _Sources:
    """Return each function's `n_most` first neurons by scores on half a, and those in experts functional for nothing.

    The first are the best over all studied layers or, of a partition, those of one expert after the other.
    """
    run_id, partition_id = request.run.run_id, request.partition_id
    layers = [f"{stack} {layer}" for stack, layer in population.neurons.select("stack", "layer").unique().rows()]
    names = ["/".join(function) for function in functions]
    asked = {"run": run_id, "ranking": request.settings.ranking, "functions": names, "layers": layers, "most": n_most}
    asked |= {"partition": partition_id, "functional_p": FUNCTIONAL_P}
    which, selection = ("top", "top") if partition_id is None else ("expert", "functional")
    ranked = request.database.ask(f"perturbation_{which}_neurons", **asked).pl()
    if partition_id is not None and ranked.is_empty():
        raise AnalysisError(f"partition {partition_id} has no neuron of the layers that run {run_id} measured")
    sources = [
        Ranking(family, function, selection, population.rows(own, "the store"), n_functional=own["n_functional"][0])
        for family, function, own in _by_function(ranked)
    ]
    nonfunctional = next((each.rows for each in sources if each.family == SHARED), None)
    return [replace(each, rows=each.rows[:n_most]) for each in sources if each.family != SHARED], nonfunctional


def query_sources(database: Database, query: str, population: Population, kind: PerturbationKind) -> list[Ranking]:
    """Return the neurons that SQL selects, in the order of its rows, a source for each function; refuse any others."""
    owner, size = "the query", population.unit_size
    table = database.sql(query).arrow()
    if len(named := [name for name in ("family", "function") if name in table.column_names]) == 1:
        raise AnalysisError(f"the query yields a column {named[0]} alone; sources have a family and a function")
    # Means and deviations are the run's, for own neurons and controls alike.
    level = LEVEL_COLUMNS[kind] if kind == "clamp" else None
    neurons = read_neurons(table, owner, *named, level=level)
    if neurons.is_empty():
        raise AnalysisError("the query yields no rows")
    neurons = neurons.with_columns(row=population.rows(neurons, owner))
    if not named:
        neurons = neurons.with_columns(family=pl.lit("query"), function=pl.lit("query"))
    sources = []
    for family, function, own in _by_function(neurons):
        for stack, layer, neuron in own.filter(pl.col("row").is_duplicated()).select(KEYS).head(1).rows():
            problem = f"the query yields {stack} layer {layer}, neuron {neuron} more than once for {family}/{function}"
            raise AnalysisError(f"{problem}; is it of several runs?")
        unit = (rows := own["row"].to_numpy()) // size
        if len(unit) % size or (unit.reshape(-1, size) != unit[::size, None]).any():
            problem = f"the query does not yield whole native experts one after the other, {size:,} neurons each"
            raise AnalysisError(f"{problem}, for {family}/{function}; {kind} takes whole experts")
        sources.append(Ranking(family, function, "query", rows, None if level is None else own["level"].to_numpy()))
    return sources


def _by_function(rows: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Yield each family and function, sorted, with its rows."""
    parts = rows.partition_by("family", "function", maintain_order=True, as_dict=True)
    for (family, function), own in sorted(parts.items(), key=lambda part: part[0]):
        yield str(family), str(function), own


def rankings(
    population: Population, sources: Sequence[Ranking], nonfunctional: _Rows | None, settings: PerturbationSettings
) -> list[Ranking]:
    """Return the rankings of controls that all sources share, then each source's own and its matched controls."""
    ranked, seeds, controls = [], settings.seeds, settings.controls_run
    for control, pool in (("random", np.arange(len(population))), ("nonfunctional", nonfunctional)):
        if control in controls and pool is not None and len(pool):
            drawn = ((seed, population.draw_random(pool, seed)) for seed in seeds)
            ranked += [Ranking(SHARED, SHARED, control, rows, seed=seed) for seed, rows in drawn]
    for source in sources:
        ranked += [replace(source, seed=seed) for seed in (seeds if settings.is_drawn else seeds[:1])]
        if "matched" in controls:
            # The levels of the kind clamp go with the rank.
            matched = replace(source, selection="matched", n_functional=None)
            ranked += [replace(matched, rows=population.draw_matched(source.rows, seed), seed=seed) for seed in seeds]
    return ranked


def plan_cells(
    population: Population, ranked: Sequence[Ranking], settings: PerturbationSettings, note: _Note, *, n_least: int = 0
) -> list[Ranking]:
    """Return the cells of a study: own rankings cut to every dose, then controls cut to the doses of own cells.

    A ranking that is too short for a dose, or leaves a layer with some but fewer than `n_least` units, has no cell.
    """
    cells: list[Ranking] = []
    short, narrow = Counter[tuple[str, float]](), Counter[tuple[str, float]]()

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
        least = f"the {n_least} experts that a token is sent to"
        raise AnalysisError(f"no source has, in each of its layers, {least}; take one layer, or a larger dose")
    if not cells:
        most = max((len(ranking.rows) for ranking in own), default=0)
        problem = f"the most is {most:,} of {len(population):,} neurons"
        raise AnalysisError(f"no source has neurons enough for a dose: {problem}")
    doses = dict.fromkeys(cell.dose for cell in cells)
    needed = {(cell.source, cell.dose) for cell in cells} | {((SHARED, SHARED), dose) for dose in doses}
    for ranking in ranked:
        for dose in doses:
            if ranking.selection != settings.selection and (ranking.source, dose) in needed:
                add(ranking, dose)
    for (selection, dose), n in sorted(short.items()):
        note(f"{n:,} {selection} sets have fewer neurons than a dose of {dose:g} takes, and are excluded from it")
    for (selection, dose), n in sorted(narrow.items()):
        least = f"fewer than the {n_least} experts that a token is sent to"
        note(f"{n:,} {selection} sets have, at a dose of {dose:g}, a layer with {least}, and are excluded from it")
    for dose in doses:
        sources = [cell for cell in cells if (*cell.key[2:], cell.dose) == (settings.selection, settings.seed, dose)]
        n_apart = apart([source.rows for source in sources], dose).sum(axis=1)
        alone = ["/".join(source.source) for source, n in zip(sources, n_apart, strict=True) if n < 2]
        if alone and len(sources) > 2:
            left_out = f"at a dose of {dose:g} control other is left out of {', '.join(alone)}"
            few = "of the other sources, fewer than two share no more of its neurons than sets drawn at random do"
            note(f"{left_out}: {few}")
        named = [
            f"{'/'.join(cell.source)} with seed {cell.seed} holds {share:.0%} of {held}"
            for cell in cells
            if (cell.selection, cell.dose) == ("matched", dose)
            for held, share in [most_held(cells, cell)]
            if share >= _MUCH
        ]
        if named:
            note(f"at a dose of {dose:g} matched sets hold neurons of other sources: that of {', of '.join(named)}")
    return cells


def most_held(cells: Sequence[Ranking], cell: Ranking) -> tuple[str, float]:
    """Return the other source, as family/function, of whose neurons of the same dose a cell holds most; their share."""
    others = (each for each in cells if each.dose == cell.dose and each.source != cell.source)
    sources = {each.source: each.rows for each in others if each.selection in get_args(Selection)}
    shares = overlap(list(sources.values()), [cell.rows])[:, 0]
    return max(zip(shares.tolist(), map("/".join, sources), strict=True), default=(0.0, ""))[::-1]


def comparable(population: Population, cells: list[Ranking], settings: PerturbationSettings, note: _Note) -> list[bool]:
    """Return for each cell whether its effect is compared: matched sets must be like their source in energy.

    Fewer than two of a source and dose are not: a single one does not show how sets differ.
    """
    most, energy = settings.energy_ratio, [float(population.energy[cell.rows].sum()) for cell in cells]
    held = {(cell.source, cell.dose, cell.selection): each for cell, each in zip(cells, energy, strict=True)}
    matched: dict[tuple[tuple[str, str], float], dict[int, float]] = {}
    for place, cell in enumerate(cells):
        if cell.selection == "matched":
            own = held[cell.source, cell.dose, settings.selection]
            ratio = energy[place] / own if own else np.inf if energy[place] else 1.0
            matched.setdefault((cell.source, cell.dose), {})[place] = ratio
    not_compared: set[int] = set()
    for (source, dose), ratios in matched.items():
        alike = [place for place, ratio in ratios.items() if 1 / most <= ratio <= most]
        excluded = ratios.keys() - (alike if len(alike) > 1 else [])
        not_compared |= excluded
        if excluded:
            which = f"at a dose of {dose:g} {len(excluded)} of {len(ratios)} matched sets of {'/'.join(source)}"
            hold = f"sets hold {min(ratios.values()):.2f} to {max(ratios.values()):.2f} times its neurons' energy"
            note(f"{which} are not compared: {hold}, and two at least must be within a factor of {most:g}")
    return [place not in not_compared for place in range(len(cells))]
