"""Charts of single neurons: by layer beside random initialisation and controls, and the map of layers and functions."""

from typing import Any

import altair as alt
import polars as pl

from .picture import LEVEL, p_text, picture, plural, sign_test, signed
from .style import BLUE, GREY, ORANGE, by_family, cells, layer_axis, lines, panels
from .subjects import Subject

_MEASURED = {"trained": BLUE, "random initialisation": GREY, "control": ORANGE}
_MOST_FUNCTIONS = 80


@picture("specialised-neurons")
def plot_specialised_neurons(rows: pl.DataFrame, subject: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot the held-out lift of each layer's neurons, trained, at random initialisation and of control functions.

    Parameters
    ----------
    database
        The store's database.
    model, corpus
        What to plot; None for the only one.
    family
        The only family to plot; None for all.

    Raises
    ------
    UnknownNameError
        If the store has no such model, corpus or family, or several and none is named.
    AnalysisError
        If the store has no data for the chart.

    Examples
    --------
    >>> database = neuronlake.open("neuronlake-store")
    >>> neuronlake.plot_specialised_neurons(database, "tiny-bert")
    alt.FacetChart(...)
    """
    shown = by_family(rows)
    chart = lines(shown, layer_axis(), "lift", "held-out lift", "measured", _MEASURED, rule=0)
    means = dict(rows.group_by("measured").agg(pl.col("lift").mean()).iter_rows())
    held = ", ".join(f"{signed(means[name])} {name}" for name in _MEASURED if name in means)
    text = f"Held out, the lift of a layer's neuron of a function is {held}."
    # Counts are those of the run, in each of its rows.
    known = rows.with_columns(pl.col("n_neurons", "n_significant").fill_null(0))
    counts = {row.pop("measured"): row for row in known.unique("measured").to_dicts()}
    own = counts[subject.weights]
    n, n_significant, n_selective = (own[name] for name in ("n_neurons", "n_significant", "n_selective"))
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


@picture("function-map")
def plot_function_map(rows: pl.DataFrame, subject: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot layer × function by held-out lift less that of controls, or of the random initialisation.

    Parameters and errors are those of `plot_specialised_neurons`.

    Examples
    --------
    >>> neuronlake.plot_function_map(neuronlake.open("neuronlake-store"), "tiny-bert")
    alt.FacetChart(...)
    """
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
    counted = (
        f"{n_above} of {plural(n, 'function')} have a held-out lift above {versus}, mean over layers ({p_text(p)})"
    )
    if n < len(means):
        counted += f"; {plural(len(means) - n, 'function')} that have none are left out"
    if p > LEVEL:
        return f"{counted}: no more than a coin gives, so the map shows no specialisation."
    best: dict[str, Any] = rows.sort("difference", descending=True, nulls_last=True).row(0, named=True)
    other = f", {signed(best[compared])} of {named[compared]}" if compared else ""
    claim = "Layers hold neurons specialised in functions" if compared else "Neurons tell functions apart"
    if subject.is_random_init:
        claim = "At random initialisation, where nothing is learned, neurons tell functions apart"
    return (
        f"{claim}: {counted}. The farthest is neuron {best['neuron']} of layer {best['layer']} for {best['function']}: "
        f"{signed(best['held_out_lift'])}{other}."
    )
