"""Charts of neurons: by layer beside random initialisation and controls, layers × functions, shared in a family."""

from typing import Any

import altair as alt
import numpy as np
import polars as pl

from ..errors import plural
from .picture import LEVEL, Subject, p_text, picture, sign_test, signed
from .style import BLUE, GREY, INK, LAYERS, ORANGE, by_family, cells, lines, panels, tooltip

_MEASURED = {"trained": BLUE, "random initialisation": GREY, "control": ORANGE}
_MOST_FUNCTIONS = 80
_PERMUTATIONS = 999


@picture("specialised-neurons", example="alt.FacetChart(...)")
def plot_specialised_neurons(rows: pl.DataFrame, subject: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot the held-out lift of each layer's neurons, trained, at random initialisation and of control functions."""
    shown = by_family(rows)
    chart = lines(shown, LAYERS, "lift", "held-out lift", "measured", _MEASURED, rule=True)
    means = dict(rows.group_by("measured").agg(pl.col("lift").mean()).iter_rows())
    held = ", ".join(f"{signed(means[name])} {name}" for name in _MEASURED if name in means)
    text = f"Held out, the lift of a layer's neuron of a function is {held}."
    # Counts are those of the run, in each of its rows.
    known = rows.with_columns(pl.col("n_neurons", "n_significant").fill_null(0))
    counts = {row["measured"]: row for row in known.unique("measured").to_dicts()}
    own = counts[subject.weights]
    n, n_significant, n_selective = own["n_neurons"], own["n_significant"], own["n_selective"]
    if not n_significant:
        return panels(chart, shown), f"No neuron of {n:,} stands out from chance (q ≤ .05). {text}"
    beyond = f"{n_significant:,} of {n:,} neurons ({n_significant / n:.0%}) stand out from chance (q ≤ .05)"
    if subject.is_random_init:
        beyond += " at random initialisation, where nothing is learned"
    elif random := counts.get("random initialisation"):
        beyond += f", {random['n_significant']:,} of {random['n_neurons']:,} at random initialisation"
    if n_selective is None:
        beyond += "; no control functions say whether texts and words alone explain it (ingest --controls)"
    elif n_selective:
        are = "lie" if subject.is_random_init else "are specialised"
        specialised = f"{n_selective:,} neurons ({n_selective / n:.0%}) {are} beyond what controls explain"
        beyond = f"{specialised}; {beyond}"
    else:
        beyond += ", but none beyond what control functions explain: no specialisation is shown"
    return panels(chart, shown), f"{beyond}. {text}"


@picture("function-map", example="alt.FacetChart(...)")
def plot_function_map(rows: pl.DataFrame, subject: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot layer × function by held-out lift less that of controls, or of the random initialisation."""
    means = rows.group_by("family", "function").agg(mean=pl.col("difference").mean())
    means = means.sort("mean", "family", "function", descending=[True, False, False], nulls_last=True)
    shown = rows.join(means.head(_MOST_FUNCTIONS), on=["family", "function"], how="semi", maintain_order="left")
    several = rows["stack"].n_unique() > 1
    place = pl.concat_str("stack", "layer", separator=" ") if several else pl.col("layer").cast(pl.String)
    shown = shown.with_columns(place=place)
    places = shown["place"].unique(maintain_order=True).to_list()
    picked = alt.selection_point(name="cell", fields=["stack", "layer", "function", "family"], empty=False)
    x = alt.X("place:N", title="layer", sort=places, axis=alt.Axis(labelAngle=0, labelOverlap=True))
    y = alt.Y("function:N", title=None, sort=means["function"].to_list())
    cell_map = cells(shown, x, y, title="difference", is_framed=picked).add_params(picked)
    chart = cell_map.properties(width=420, height=alt.Step(15)).facet(row=alt.Row("family:N", title=None))
    usermeta = {"panels": 1, "map": True, "most": 260 + 100 * len(places)}
    return chart.resolve_scale(y="independent").properties(usermeta=usermeta), _mapped(rows, means, subject)


def _mapped(rows: pl.DataFrame, means: pl.DataFrame, subject: Subject) -> str:
    named = {"control_lift": "control functions", "random_lift": "the random initialisation"}
    compared = next((column for column in named if rows[column].count()), None)
    versus = f"that of {named[compared]}" if compared else "chance"
    n, n_above, p = means["mean"].count(), int((means["mean"] > 0).sum()), sign_test(means["mean"])
    n_without = f"; {plural(len(means) - n, 'function')} that have none are left out" if n < len(means) else ""
    counted = f"{n_above} of {plural(n, 'function')} have a held-out lift above {versus}, mean over layers "
    counted += f"({p_text(p)}){n_without}"
    if p > LEVEL:
        return f"{counted}: no more than a coin gives, so the map shows no specialisation."
    best: dict[str, Any] = rows.sort("difference", descending=True, nulls_last=True).row(0, named=True)
    other = f", {signed(best[compared])} of {named[compared]}" if compared else ""
    claim = "Layers hold neurons specialised in functions" if compared else "Neurons tell functions apart"
    if subject.is_random_init:
        claim = "At random initialisation, where nothing is learned, neurons tell functions apart"
    farthest = f"neuron {best['neuron']} of layer {best['layer']} for {best['function']}"
    return f"{claim}: {counted}. The farthest is {farthest}: {signed(best['held_out_lift'])}{other}."


@picture("families")
def plot_family_overlap(rows: pl.DataFrame, subject: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot the top neurons that functions of one family, and of two, have in common."""
    measured = {subject.weights: "overlap"}
    if not subject.is_random_init:
        measured["random initialisation"] = "random_overlap"
    is_within = pl.col("family_a") == pl.col("family_b")
    between = pl.concat_str("family_a", "family_b", separator=" – ")
    pairs = rows.with_columns(families=pl.when(is_within).then("within " + pl.col("family_a")).otherwise(between))
    grouped = pairs.group_by("families", is_within=is_within)
    times = {name: (pl.col(column) / pl.col("chance")).mean() for name, column in measured.items()}
    parts = (grouped.agg(n_pairs=pl.len(), measured=pl.lit(name), times_chance=each) for name, each in times.items())
    means = pl.concat(parts).drop_nulls().sort("is_within", "families", descending=[True, False])
    means = means.with_columns(pl.col("times_chance").round_sig_figs(6))
    names = [name for name in measured if name in set(means["measured"])]
    colours = alt.Scale(domain=names, range=[_MEASURED[name] for name in names])
    colour = alt.Color("measured:N", scale=colours, title=None)
    shape = alt.Shape("measured:N", scale=alt.Scale(domain=names, range=["circle", "diamond"]), title=None)
    axis = alt.Axis(grid=True, tickCount=6)
    x = alt.X("times_chance:Q", title="top neurons in common, times chance", scale=alt.Scale(domainMin=0), axis=axis)
    base = alt.Chart(means).encode(x=x, y=alt.Y("families:N", title=None, sort=None))
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(color=colour, shape=shape, tooltip=tooltip(means))
    numbers = base.transform_filter(alt.datum.measured == subject.weights).mark_text(dy=-11, color=INK, aria=False)
    chance = alt.Chart(means).transform_aggregate(n="count()").mark_rule(opacity=0.5, color=INK, aria=False)
    texts = numbers.encode(text=alt.Text("times_chance:Q", format=".1f"))
    chart = alt.layer(chance.encode(x=alt.datum(1)), dots, texts)
    chart = chart.properties(width=420, height=alt.Step(30), usermeta={"panels": 1, "most": 760})
    return chart, _family_sentence(rows, means, subject)


def _family_sentence(rows: pl.DataFrame, means: pl.DataFrame, subject: Subject) -> str:
    within, between = (means.filter(measured=subject.weights, is_within=is_within) for is_within in (True, False))
    beside = means.filter(pl.col("measured") != subject.weights, is_within=True)
    if within.is_empty() or between.is_empty():
        return "Without two families of several functions there is nothing to compare."
    said = ", ".join(f"{row['times_chance']:.1f} {row['families']}" for row in within.iter_rows(named=True))
    text = f"Times chance, two functions have as many top neurons in common: {said}, {_span(between)} between families"
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
