"""Whose neurons a study perturbs: for each source, neurons in the order in which doses take them in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ...errors import AnalysisError
from ...queries.database import Database
from ...schema.vocabulary import PerturbationKind
from ..neuron_rows import KEYS, check_columns, key_column, numbers
from .kinds import LEVEL_COLUMNS
from .population import Population

__all__ = ["FUNCTIONAL_P", "Source", "expert_sources", "query_sources", "top_sources"]

FUNCTIONAL_P = 0.001
"""An expert is functional where its hypergeometric p is at most this: the paper's criterion."""


@dataclass(frozen=True, slots=True)
class Source:
    """Neurons of one function, or of one query.

    Parameters
    ----------
    family, function
        The function.
    ranking
        Rows of the population, in the order in which doses take them in. [ranked]
    levels
        What the kind holds them at or how much they vary, in the same order; None: as the population says. [ranked]
    n_functional
        How many of the first are in experts that are functional for it; None where there are no experts.
    """

    family: str
    function: str
    ranking: NDArray[np.int64]
    levels: NDArray[np.float64] | None = None
    n_functional: int | None = None


def top_sources(
    database: Database, run_id: str, population: Population, functions: Sequence[tuple[str, str]], n_most: int
) -> list[Source]:
    """Return each function's top neurons of all studied layers, best on half a first.

    Parameters
    ----------
    database
        The store.
    run_id
        The run whose scores choose.
    population
        The studied neurons.
    functions
        ``(family, function)`` of each source wanted; one without a score on half a is left out.
    n_most
        Neurons to return of each.
    """
    ranked = database.sql(
        """
        select
            family,
            function,
            stack,
            layer,
            neuron,
        from neuron_scores
        where run_id = $run
            and list_contains($layers, stack || ' ' || layer)
            and list_contains($functions, family || '/' || function)
            and ranking_half_a is not null
        qualify row_number() over (
            partition by family, function order by ranking_half_a desc, stack, layer, neuron
        ) <= $most
        order by family, function, ranking_half_a desc, stack, layer, neuron
        """,
        {"run": run_id, "layers": _layers(population), "functions": _joined(functions), "most": n_most},
    ).pl()
    return [Source(*_names(each), population.rows(each, "the top neurons")) for each in _by_function(ranked)]


def expert_sources(
    database: Database,
    run_id: str,
    partition_id: str,
    population: Population,
    functions: Sequence[tuple[str, str]],
    n_most: int,
) -> tuple[list[Source], NDArray[np.int64]]:
    """Return each function's experts, neuron by neuron, and the neurons that are of no functional expert.

    Experts are in the order of their hypergeometric p for the function's top neurons on half a, and within an
    expert neurons in the order of their scores there.

    Parameters
    ----------
    database
        The store.
    run_id
        The run whose scores choose.
    partition_id
        The partition.
    population
        The studied neurons.
    functions
        ``(family, function)`` of each source wanted.
    n_most
        Neurons to return of each.

    Returns
    -------
    sources
        One a function.
    nonfunctional
        Rows of the population in experts whose p is above `FUNCTIONAL_P` for every function of the run. [neurons]

    Raises
    ------
    AnalysisError
        If the partition has no neuron among those studied.
    """
    members = database.sql(
        "select stack, layer, neuron, expert from experts where partition_id = ?", [partition_id]
    ).pl()
    members = population.neurons.with_row_index("row").join(members, on=KEYS, maintain_order="left")
    if members.is_empty():
        raise AnalysisError(f"partition {partition_id} has no neuron of the layers that run {run_id} measured")
    tests = _tests(database, run_id, partition_id).with_columns(is_functional=pl.col("p_value") <= FUNCTIONAL_P)
    functional = tests.filter("is_functional").select("stack", "layer", "expert").unique()
    nonfunctional = members.join(functional, on=("stack", "layer", "expert"), how="anti", maintain_order="left")
    scores = database.sql(
        """
        select family, function, stack, layer, neuron, ranking_half_a
        from neuron_scores
        where run_id = $run and list_contains($functions, family || '/' || function)
        """,
        {"run": run_id, "functions": _joined(functions)},
    ).pl()
    sources = []
    for own_scores in _by_function(scores):
        family, function = _names(own_scores)
        own = tests.filter(family=family, function=function)
        ranked = (
            members.join(own, on=("stack", "layer", "expert"), how="left")
            .join(own_scores.select(*KEYS, "ranking_half_a"), on=KEYS, how="left")
            .with_columns(pl.col("p_value").fill_null(1.0), pl.col("is_functional").fill_null(value=False))
            .sort(
                "p_value", "n_top", "stack", "layer", "expert", "ranking_half_a", "neuron",
                descending=[False, True, False, False, False, True, False], nulls_last=True,
            )
        )  # fmt: skip
        ranking = ranked["row"].cast(pl.Int64).to_numpy()[:n_most]
        sources.append(Source(family, function, ranking, n_functional=int(ranked["is_functional"].sum())))
    return sources, nonfunctional["row"].cast(pl.Int64).to_numpy()


def _tests(database: Database, run_id: str, partition_id: str) -> pl.DataFrame:
    """Return the hypergeometric p of every expert that holds a top neuron of a function, chosen on half a."""
    return database.sql(
        """
        with sizes as (
            select stack, layer, expert, count(*) as n_neurons
            from experts
            where partition_id = $partition
            group by all
        ),

        covered as (
            select stack, layer, sum(n_neurons)::bigint as n_covered
            from sizes
            group by all
        ),

        found as (
            select family, function, stack, layer, expert, count(*) as n_top
            from held_out_top_neurons
            inner join experts using (stack, layer, neuron)
            where run_id = $run and half = 'a' and partition_id = $partition
            group by all
        ),

        drawn as (
            select family, function, stack, layer, sum(n_top)::bigint as n_drawn
            from found
            group by all
        )

        select
            family,
            function,
            stack,
            layer,
            expert,
            n_top,
            hypergeometric_tail(n_top, n_neurons, n_drawn, n_covered) as p_value,
        from found
        inner join drawn using (family, function, stack, layer)
        inner join sizes using (stack, layer, expert)
        inner join covered using (stack, layer)
        """,
        {"run": run_id, "partition": partition_id},
    ).pl()


def query_sources(database: Database, query: str, population: Population, kind: PerturbationKind) -> list[Source]:
    """Return the neurons that SQL yields, in the order of its rows; one source for each function it names.

    Parameters
    ----------
    database
        The store.
    query
        The SQL (see `PerturbationSettings`).
    population
        The studied neurons.
    kind
        The kind of perturbation, which may take a column.

    Raises
    ------
    QueryError
        If the SQL is wrong.
    AnalysisError
        If it yields no rows, lacks a column, yields a neuron that is not studied, or one of a source twice, or if
        whole native experts are drawn and it does not yield them one after the other.
    """
    owner = "the query"
    rows = database.sql(query).arrow()
    check_columns(rows, KEYS, owner)
    if not rows.num_rows:
        raise AnalysisError("the query yields no rows")
    columns = {name: key_column(rows, name, owner) for name in KEYS}
    has_function = [name for name in ("family", "function") if name in rows.column_names]
    if len(has_function) == 1:
        raise AnalysisError(f"the query yields a column {has_function[0]} alone; sources have a family and a function")
    for name in ("family", "function"):
        columns[name] = key_column(rows, name, owner) if has_function else np.full(rows.num_rows, "query", dtype=object)
    found = pl.DataFrame(columns)
    found = found.with_columns(row=population.rows(found, owner))
    if kind == "clamp":
        # Means and deviations are the run's, of own neurons and of controls alike.
        level = LEVEL_COLUMNS[kind]
        check_columns(rows, (*KEYS, level), owner)
        found = found.with_columns(level=numbers(rows.column(level), level, owner))
    sources = []
    for each in _by_function(found):
        family, function = _names(each)
        repeated = each.filter(pl.col("row").is_duplicated())
        if repeated.height:
            stack, layer, neuron = repeated.select(KEYS).row(0)
            raise AnalysisError(
                f"the query yields {stack} layer {layer}, neuron {neuron} more than once for {family}/{function}; "
                "is it of several runs?"
            )
        ranking = each["row"].to_numpy()
        unit = population.unit[ranking]
        size = population.unit_size
        if len(unit) % size or (unit.reshape(-1, size) != unit[::size, None]).any():
            raise AnalysisError(
                f"the query does not yield whole native experts one after the other, {size:,} neurons each, for "
                f"{family}/{function}; route-away takes whole experts"
            )
        levels = each["level"].to_numpy() if "level" in each.columns else None
        sources.append(Source(family, function, ranking, levels))
    return sources


def _layers(population: Population) -> list[str]:
    layers = population.neurons.select("stack", "layer").unique().rows()
    return [f"{stack} {layer}" for stack, layer in layers]


def _joined(functions: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{family}/{function}" for family, function in functions]


def _by_function(rows: pl.DataFrame) -> list[pl.DataFrame]:
    found = rows.partition_by("family", "function", maintain_order=True)
    return sorted(found, key=_names)


def _names(rows: pl.DataFrame) -> tuple[str, str]:
    return rows["family"][0], rows["function"][0]
