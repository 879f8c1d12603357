"""The chart of families, whose functions share their top neurons or not."""

import altair as alt
import numpy as np
import polars as pl

from .picture import LEVEL, p_text, picture
from .style import BLUE, GREY, INK, tooltip
from .subjects import Subject

_PERMUTATIONS = 999


@picture("families")
def plot_family_overlap(rows: pl.DataFrame, subject: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot the top neurons that functions of one family, and of two, have in common.

    Parameters and errors are those of `plot_specialised_neurons`.

    Examples
    --------
    >>> neuronlake.plot_family_overlap(neuronlake.open("neuronlake-store"), "tiny-bert")
    Traceback (most recent call last):
    neuronlake.errors.AnalysisError: ...
    """
    measured = {subject.weights: "overlap"}
    if not subject.is_random_init:
        measured["random initialisation"] = "random_overlap"
    is_within = pl.col("family_a") == pl.col("family_b")
    between = pl.concat_str("family_a", "family_b", separator=" – ")
    pairs = rows.with_columns(families=pl.when(is_within).then("within " + pl.col("family_a")).otherwise(between))
    means = pl.concat(
        pairs.group_by("families", is_within=is_within).agg(
            n_pairs=pl.len(), measured=pl.lit(name), times_chance=(pl.col(column) / pl.col("chance")).mean()
        )
        for name, column in measured.items()
    ).drop_nulls()
    means = means.sort("is_within", "families", descending=[True, False]).with_columns(
        pl.col("times_chance").round_sig_figs(6)
    )
    colours = {"trained": BLUE, "random initialisation": GREY}
    names = [name for name in measured if name in set(means["measured"])]
    colour = alt.Color("measured:N", scale=alt.Scale(domain=names, range=[colours[name] for name in names]), title=None)
    shape = alt.Shape("measured:N", scale=alt.Scale(domain=names, range=["circle", "diamond"]), title=None)
    axis = alt.Axis(grid=True, tickCount=6)
    x = alt.X("times_chance:Q", title="top neurons in common, times chance", scale=alt.Scale(domainMin=0), axis=axis)
    base = alt.Chart(means).encode(x=x, y=alt.Y("families:N", title=None, sort=None))
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(color=colour, shape=shape, tooltip=tooltip(means))
    numbers = base.transform_filter(alt.datum.measured == subject.weights).mark_text(dy=-11, color=INK, aria=False)
    chance = alt.Chart(means).transform_aggregate(n="count()").mark_rule(opacity=0.5, color=INK, aria=False)
    chart = alt.layer(
        chance.encode(x=alt.datum(1)), dots, numbers.encode(text=alt.Text("times_chance:Q", format=".1f"))
    )
    return chart.properties(width=420, height=alt.Step(30), usermeta={"panels": 1, "most": 760}), _sentence(
        rows, means, subject
    )


def _sentence(rows: pl.DataFrame, means: pl.DataFrame, subject: Subject) -> str:
    trained = means.filter(measured=subject.weights)
    random = means.filter(pl.col("measured") != subject.weights)
    within, between = trained.filter("is_within"), trained.filter(~pl.col("is_within"))
    if within.is_empty() or between.is_empty():
        return "Without two families of several functions there is nothing to compare."
    said = ", ".join(f"{row['times_chance']:.1f} {row['families']}" for row in within.iter_rows(named=True))
    text = f"Times chance, two functions have as many top neurons in common: {said}, {_span(between)} between families"
    beside = random.filter("is_within")
    text += f"; at random initialisation {_span(beside)} within" if len(beside) else ""
    p = _family_test(rows)
    if p > LEVEL:
        return f"{text}. Families dealt anew give as much ({p_text(p)}): nothing shows that families share neurons."
    where = "At random initialisation functions" if subject.is_random_init else "Functions"
    return f"{where} of one family share neurons, more than functions of two ({p_text(p)}). {text}."


def _span(means: pl.DataFrame) -> str:
    values = means["times_chance"]
    return " to ".join(dict.fromkeys(f"{value:.1f}" for value in sorted(values)[:: max(1, len(values) - 1)]))


def _family_test(rows: pl.DataFrame) -> float:
    """Return how often families dealt anew among the functions share as much within, by permutation.

    Functions that are labelled on the same instances share luck too, so each pair is measured against the random
    initialisation where there is one.
    """
    a, b = (list(rows.select(f"family_{side}", f"function_{side}").iter_rows()) for side in "ab")
    functions = sorted({*a, *b})
    first, second = (np.array([functions.index(function) for function in side]) for side in (a, b))
    overlap = (rows["overlap"] - rows["random_overlap"].fill_null(0)).to_numpy()
    families, generator = np.array([family for family, _ in functions]), np.random.default_rng(0)
    dealt = [families, *(generator.permutation(families) for _ in range(_PERMUTATIONS))]
    within = [overlap[each[first] == each[second]].mean() for each in dealt]
    return float(np.mean(np.array(within) >= within[0]))
