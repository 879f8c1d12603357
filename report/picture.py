"""A picture: the rows of one statement about a subject, the chart that shows them, and the sentence that they allow."""

import functools
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path

import altair as alt
import polars as pl

from ..errors import AnalysisError, UnknownNameError, check_known
from ..queries import quoting
from ..queries.database import Database
from ..queries.statements import statement
from .style import CONFIG

LEVEL = 0.01  # of a test behind a sentence: what labels that mean nothing pass once in a hundred times
TEXTS: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("pictures.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Subject:
    """A measurement, the last of its series, and what the store has to compare it with."""

    model: str
    revision: str
    corpus: str | None  # None of imported scores
    run_id: str
    random_run_id: str | None  # the same architecture, randomly initialised
    is_random_init: bool  # of a store that has no other run of the measurement
    series: Sequence[str]  # runs of all checkpoints with a step, this one the last; empty without others
    left_out: Sequence[str]  # revisions of the same measurement that are not pictured
    n_neurons: int
    n_layers: int
    n_functions: int
    n_instances: int | None
    n_control_draws: int
    family: str | None  # the only family that is pictured; None for all

    @property
    def title(self) -> str:
        """The model and the corpus."""
        revision = "" if self.revision == "main" else f" {self.revision}"
        return f"{self.model}{revision} on {self.corpus or 'imported scores'}"

    @property
    def weights(self) -> str:
        """What its weights are, as charts name it."""
        return "random initialisation" if self.is_random_init else "trained"

    @property
    def parameters(self) -> dict[str, object]:
        """What statements ask of it."""
        return asdict(self) | {"weights": self.weights}


def find_subjects(
    database: Database, *, model: str | None = None, corpus: str | None = None, family: str | None = None
) -> list[Subject]:
    """Return what a store, or a slice of it, has to picture; a name that it lacks raises `UnknownNameError`."""
    for kind, name in {"model": model, "corpus": corpus, "family": family}.items():
        if name:
            is_family = kind == "family"
            known = database.ask("stored_families") if is_family else database.sql(f"select distinct {kind} from runs")
            check_known(kind, [name], [str(row[0]) for row in known.rows()], where=database.store)
    rows = database.ask("report_subjects", model=model, corpus=corpus).arrow().to_pylist()
    return [Subject(**row, family=family) for row in rows]


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart and all that is said of it."""

    name: str  # of its files, such as ``function-map``
    title: str
    reading: str  # how to read the chart
    sentence: str  # what the rows say, made from their numbers
    query: str  # SQL that gives the rows, as it can be asked anywhere
    rows: pl.DataFrame
    chart: alt.TopLevelMixin


Draw = Callable[[pl.DataFrame, Subject], tuple[alt.TopLevelMixin, str]]
Plot = Callable[..., alt.TopLevelMixin]
# By the name of a picture, in the order of pictures.toml, what makes it of a subject; None where there is no data.
PICTURES: dict[str, Callable[[Database, Subject], Picture | None]] = {}
# What the documentation of every plot adds to its first line.
_DOCUMENTATION = Path(__file__).with_name("plot.txt").read_text(encoding="utf-8")


def picture(
    name: str,
    *,
    asks: str | None = None,
    example: str = "Traceback (most recent call last):\nneuronlake.errors.AnalysisError: ...",
) -> Callable[[Draw], Plot]:
    """Make a function from rows to a chart and a sentence a picture, and a function from a database to the chart.

    The rows are those of the statement in pictures.toml, given the first row of statement `asks`; without either there
    is no picture. `example` is what a small store shows.
    """

    def decorate(draw: Draw) -> Plot:
        def build(database: Database, subject: Subject) -> Picture | None:
            asked = next(iter(database.sql(_written(asks, subject.parameters))), None) if asks else {}
            if asked is None:
                return None
            query, rows = rows_of(database, TEXTS[name]["statement"], **subject.parameters, **asked)
            if rows.is_empty():
                return None
            drawn, sentence = draw(rows, subject)
            chart = drawn.configure(**CONFIG).properties(description=sentence)
            return Picture(name, TEXTS[name]["title"], TEXTS[name]["reading"], _typeset(sentence), query, rows, chart)

        def plot(
            database: Database, model: str | None = None, *, corpus: str | None = None, family: str | None = None
        ) -> alt.TopLevelMixin:
            subjects = find_subjects(database, model=model, corpus=corpus, family=family)
            made = {subject.title: chosen.chart for subject in subjects if (chosen := build(database, subject))}
            if not made:
                lacking = f"{database.store} has no data for the chart {name}"
                raise AnalysisError(f"{lacking}; neuronlake report says what is missing")
            if len(made) > 1:
                where = f"{database.store} (model, corpus)"
                raise UnknownNameError("single measurement", model or "*", made, where=where)
            return next(iter(made.values()))

        PICTURES[name] = build
        functools.update_wrapper(plot, draw)
        plot.__doc__ = f"{draw.__doc__}{_DOCUMENTATION.format(draw.__name__, example)}"
        del plot.__wrapped__  # type: ignore[attr-defined]
        return plot

    return decorate


def rows_of(database: Database, name: str, **parameters: object) -> tuple[str, pl.DataFrame]:
    """Return a statement with its parameters written out, and its rows, with six digits: as shown, downloaded, said."""
    query = _written(name, parameters)
    rows = database.sql(query).pl()
    floats = [column for column, kind in rows.schema.items() if kind.is_float()]
    return query, rows.with_columns(pl.col(floats).cast(pl.Float64).round_sig_figs(6).fill_nan(None))


def sign_test(values: Iterable[float | None]) -> float:
    """Return the one-sided p of a sign test: how often as many of the values lie above 0 by a coin."""
    known = [value for value in values if value is not None]
    n_above = sum(value > 0 for value in known)
    return float(sum(comb(len(known), k) for k in range(n_above, len(known) + 1)) / 2 ** len(known))


def p_text(p: float) -> str:
    """Return a p value as a sentence gives it."""
    return f"p = {p:.2g}" if p > 0.001 else "p ≤ .001"


def signed(value: float, digits: int = 2) -> str:
    """Return a number as a sentence gives it, with a minus sign."""
    return f"{value:z.{digits}f}".replace("-", "−")


def told_apart(rows: pl.DataFrame, **families: str) -> pl.DataFrame:
    """Return rows with functions as family/function where two families have one; `families` are by those columns."""
    pairs = pl.concat(rows.select(function=name, family=family) for name, family in families.items()).unique()
    twice = pairs.filter(pl.col("function").is_duplicated())["function"].to_list()
    return rows.with_columns(
        pl.when(pl.col(name).is_in(twice)).then(pl.concat_str(family, name, separator="/")).otherwise(name).alias(name)
        for name, family in families.items()
    )


def _typeset(sentence: str) -> str:
    """Return a sentence with relations that no line breaks."""
    return re.sub(r"\b([pq]) ([≤=]) (?=[.\d])", "\\1\u00a0\\2\u00a0", sentence)


def _written(name: str, parameters: Mapping[str, object]) -> str:
    """Return a statement with its parameters written out."""
    text = statement(name)
    if "from function_map" in text:
        text = f"with function_map as (\n{statement('report_function_map')}\n)\n\n{text}"
    return re.sub(r"\$(\w+)", lambda match: _literal(parameters[match[1]]), text)


def _literal(value: object) -> str:
    """Return a value as SQL spells it."""
    match value:
        case None:
            return "null"
        case int() | float():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{quoting.literal(key)}: {_literal(each)}" for key, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_literal, value)) + "]"
    return quoting.literal(value)
