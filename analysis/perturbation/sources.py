"""The sources of a study: functions, each with its neurons ranked in the order in which they are ablated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...queries.database import Database
from ...queries.statements import statement
from ...schema.vocabulary import PerturbationKind
from ..neuron_rows import KEYS, check_columns, key_column, numbers
from .population import Population
from .request import Request
from .settings import LEVEL_COLUMNS

FUNCTIONAL_P = 0.001
"""An expert is functional where its hypergeometric p is at most this: the paper's level."""

_EXPERT = ("stack", "layer", "expert")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Neurons in the order in which they are ablated: a source's own or a control's, all of them or those of a dose."""

    # The source; `SHARED` for a control that all sources share
    family: str
    function: str
    selection: str  # functional, top or query; or the control: random, matched or nonfunctional
    rows: NDArray[np.int64]  # rows of the population [ranked]
    # Each neuron's level (see `LEVEL_COLUMNS`); None where the population has it [ranked]
    levels: NDArray[np.float64] | None = None
    n_functional: int | None = None  # how many, the first, are in experts functional for the source; None without any
    seed: int = 0  # seed of the draw and of the ablation
    dose: float = 0.0  # share of the population, for a cell; 0 for a ranking that is not cut to a dose

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Family, function, selection and seed."""
        return self.family, self.function, self.selection, self.seed

    def cut(self, dose: float, n_neurons: int) -> "Ranking":
        """Return the first `n_neurons`: the cell of a dose."""
        return replace(
            self,
            rows=self.rows[:n_neurons],
            levels=None if self.levels is None else self.levels[:n_neurons],
            n_functional=None if self.n_functional is None else min(self.n_functional, n_neurons),
            dose=dose,
        )


def top_sources(
    request: Request, population: Population, functions: Sequence[tuple[str, str]], n_most: int
) -> list[Ranking]:
    """Return each function's `n_most` top neurons over all studied layers, best on half a first.

    Functions without a score on half a are excluded.
    """
    layers = [f"{stack} {layer}" for stack, layer in population.neurons.select("stack", "layer").unique().rows()]
    names = ["/".join(function) for function in functions]
    asked = {"run": request.run.run_id, "ranking": request.settings.ranking, "functions": names, "layers": layers}
    ranked = request.database.sql(statement("perturbation_top_neurons"), asked | {"most": n_most}).pl()
    return [
        Ranking(family, function, "top", population.rows(neurons, "the top neurons"))
        for family, function, neurons in _by_function(ranked)
    ]


def expert_sources(
    request: Request, population: Population, functions: Sequence[tuple[str, str]], n_most: int
) -> tuple[list[Ranking], NDArray[np.int64]]:
    """Return each function's `n_most` first neurons, expert by expert, and the neurons of nonfunctional experts.

    Experts are in the order of their hypergeometric p for the function's top neurons on half a, their neurons in the
    order of scores on half a. The second result is the rows of the population in experts whose p is above
    `FUNCTIONAL_P` for every function of the run. The partition must have a neuron of the population.
    """
    database, partition_id = request.database, request.partition_id
    query = "select stack, layer, neuron, expert from experts where partition_id = ?"
    members = database.sql(query, [partition_id]).pl()
    members = population.neurons.with_row_index("row").join(members, on=KEYS, maintain_order="left")
    if members.is_empty():
        raise AnalysisError(
            f"partition {partition_id} has no neuron of the layers that run {request.run.run_id} measured"
        )
    asked = {"run": request.run.run_id, "ranking": request.settings.ranking}
    tests = database.sql(statement("perturbation_expert_tests"), asked | {"partition": partition_id}).pl()
    tests = tests.with_columns(is_functional=pl.col("p_value") <= FUNCTIONAL_P)
    functional = tests.filter("is_functional").select(_EXPERT).unique()
    nonfunctional = members.join(functional, on=_EXPERT, how="anti", maintain_order="left")
    names = ["/".join(function) for function in functions]
    scores = database.sql(statement("perturbation_half_scores"), asked | {"functions": names}).pl()
    sources = []
    for family, function, own_scores in _by_function(scores):
        ranked = (
            members.join(tests.filter(family=family, function=function), on=_EXPERT, how="left")
            .join(own_scores.select(*KEYS, "score"), on=KEYS, how="left")
            .sort(
                "p_value", "n_top", *_EXPERT, "score", "neuron",
                descending=[False, True, False, False, False, True, False], nulls_last=True,
            )
        )  # fmt: skip
        rows = ranked["row"].cast(pl.Int64).to_numpy()[:n_most]
        n_functional = int(ranked["is_functional"].sum())
        sources.append(Ranking(family, function, "functional", rows, n_functional=n_functional))
    return sources, nonfunctional["row"].cast(pl.Int64).to_numpy()


def query_sources(database: Database, query: str, population: Population, kind: PerturbationKind) -> list[Ranking]:
    """Return the neurons that SQL selects, in the order of its rows; one source for each function it names.

    Raises a `QueryError` if the SQL is wrong. An `AnalysisError` says if it returns no rows, lacks a column, or returns
    a neuron that is not studied, or twice for a source; or if units are native experts and it returns them in parts.
    """
    owner = "the query"
    table = database.sql(query).arrow()
    check_columns(table, KEYS, owner)
    if not table.num_rows:
        raise AnalysisError("the query yields no rows")
    named = [name for name in ("family", "function") if name in table.column_names]
    if len(named) == 1:
        raise AnalysisError(f"the query yields a column {named[0]} alone; sources have a family and a function")
    neurons = pl.DataFrame({name: key_column(table, name, owner) for name in (*KEYS, *named)})
    neurons = neurons.with_columns(row=population.rows(neurons, owner))
    if not named:
        neurons = neurons.with_columns(family=pl.lit("query"), function=pl.lit("query"))
    if kind == "clamp":
        # Means and deviations are the run's, for own neurons and controls alike.
        level = LEVEL_COLUMNS[kind]
        check_columns(table, (*KEYS, level), owner)
        neurons = neurons.with_columns(level=numbers(table.column(level), level, owner))
    sources = []
    for family, function, own in _by_function(neurons):
        repeated = own.filter(pl.col("row").is_duplicated())
        if repeated.height:
            stack, layer, neuron = repeated.select(KEYS).row(0)
            raise AnalysisError(
                f"the query yields {stack} layer {layer}, neuron {neuron} more than once for {family}/{function}; "
                "is it of several runs?"
            )
        rows = own["row"].to_numpy()
        size = population.unit_size
        unit = rows // size
        if len(unit) % size or (unit.reshape(-1, size) != unit[::size, None]).any():
            raise AnalysisError(
                f"the query does not yield whole native experts one after the other, {size:,} neurons each, for "
                f"{family}/{function}; {kind} takes whole experts"
            )
        levels = own["level"].to_numpy() if "level" in own.columns else None
        sources.append(Ranking(family, function, "query", rows, levels))
    return sources


def _by_function(rows: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Yield each family and function, sorted, with its rows."""
    parts = rows.partition_by("family", "function", maintain_order=True, as_dict=True)
    for (family, function), own in sorted(parts.items(), key=lambda part: part[0]):
        yield str(family), str(function), own
