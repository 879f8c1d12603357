"""The chart of experts, which hold a function's top neurons or not, beside random and matched groups and controls."""

import math

import altair as alt
import polars as pl

from ..queries.database import Database
from .picture import LEVEL, picture
from .style import BLUE, GREY, ORANGE, PURPLE, by_family, layer_axis, lines, panels
from .subjects import Subject

_GROUPS = {"experts": BLUE, "random groups": GREY, "matched groups": PURPLE, "control functions": ORANGE}


def _partition(database: Database, subject: Subject) -> dict[str, object] | None:
    """Return the partition of the subject's revision that is shown: by k-means if there is one.

    Experts made of scores hold functions because they were made so: nothing is to be claimed of them.
    """
    query = (
        "select partition_id from partitions where model = ? and revision = ? and half is null "
        "and method not in ('random', 'matched', 'function') "
        "order by method != 'kmeans', method, n_experts, partition_id limit 1"
    )
    return next(iter(database.sql(query, [subject.model, subject.revision])), None)


@picture("experts", asks=_partition)
def plot_expert_enrichment(rows: pl.DataFrame, subject: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot the enrichment of functional experts by layer, beside random and matched groups and control functions.

    Parameters and errors are those of `plot_specialised_neurons`.

    Examples
    --------
    >>> neuronlake.plot_expert_enrichment(neuronlake.open("neuronlake-store"), "tiny-bert")
    alt.FacetChart(...)
    """
    shown = by_family(rows)
    chart = lines(shown, layer_axis(), "enrichment", "enrichment", "groups", _GROUPS)
    share = dict(rows.group_by("groups").agg(pl.col("proportion").mean()).sort("groups").iter_rows())
    experts, first = rows.filter(groups="experts"), rows.row(0, named=True)
    n_significant, n_pairs = int(experts["n_significant"].sum()), int(experts["n_pairs"].sum())
    what = f"pairs of a function and one of the {first['n_experts']} experts of a layer, by {first['method']}"
    beside = ", ".join(f"{share[name]:.1%} of {name}" for name in _GROUPS if name in share)
    counts = f"functional are {beside}"
    if not n_significant:
        text = f"None of {n_pairs:,} {what}, holds more of its top neurons than chance allows (q ≤ .05); {counts}."
        return panels(chart, shown), text
    held = f"{n_significant:,} of {n_pairs:,} {what}, hold more top neurons than chance allows (q ≤ .05); {counts}"
    n_functional = share["experts"] * n_pairs
    # One more than the others have: a share of none is not known to be none. Chance alone gives p <= .001.
    expected = {name: max(each * n_pairs + 1, 0.001 * n_pairs) for name, each in share.items() if name != "experts"}
    as_many = [name for name, each in expected.items() if _tail(n_functional, each) > LEVEL]
    if len(share) == 1:
        text = f"{held}. Random and matched groups and controls are missing to compare with."
    elif as_many:
        text = f"{held}. This is no evidence of experts of functions: {as_many[0]} have as many but for luck."
    else:
        claim = "At random initialisation experts hold" if subject.is_random_init else "Experts are specialised in"
        text = f"{claim} functions: {held}."
    return panels(chart, shown), text


def _tail(n: float, expected: float) -> float:
    """Return how often a Poisson count is `n` or more where `expected` are expected."""
    if round(n) == 0:
        return 1.0
    terms = (math.exp(k * math.log(expected) - expected - math.lgamma(k + 1)) for k in range(round(n)))
    return 1 - math.fsum(terms)
