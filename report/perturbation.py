"""Charts of a perturbation study: source × target, and how effects grow with the dose."""

import altair as alt
import polars as pl

from ..errors import plural
from .picture import LEVEL, Subject, p_text, picture, signed, told_apart
from .style import BLUE, GREY, INK, cells, lines, panels

_FUNCTIONS = {"own function": BLUE, "other functions": GREY}


@picture("perturbed-functions", asks="report_study")
def plot_perturbed_functions(rows: pl.DataFrame, _: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot what ablating each function's neurons does to every function, at the largest dose."""
    rows = told_apart(rows, source="source_family", target="target_family")
    sources = rows["source"].unique(maintain_order=True).to_list()
    targets = list(dict.fromkeys([*sources, *rows["target"]]))
    x = alt.X("target:N", sort=targets, title="function read out", axis=alt.Axis(labelAngle=-90, labelLimit=120))
    y = alt.Y("source:N", sort=sources, title="neurons ablated")
    effects = cells(rows, x, y, title="worse than the control", is_framed=alt.datum.is_on_target)
    cross = alt.Chart(rows).mark_point(shape="cross", size=22, filled=True, color=INK, opacity=1, aria=False)
    opacity = alt.when(alt.datum.is_significant).then(alt.value(1)).otherwise(alt.value(0))
    chart = alt.layer(effects, cross.encode(x=x, y=y, opacity=opacity)).properties(width=420, height=alt.Step(17))
    usermeta = {"panels": 1, "most": 300 + 44 * len(targets)}
    own, others = (rows.filter(pl.col("is_on_target") == is_own) for is_own in (True, False))
    is_harmed, first = pl.col("is_significant") & (pl.col("difference") > 0), rows.row(0, named=True)
    n_own, n_other = (len(part.filter(is_harmed)) for part in (own, others))
    said = "is not shown to harm that function" if len(own) else "may harm that function, which is not read out,"
    if n_own:
        said = f"harms that function in {n_own} of {plural(len(own), 'source')}"
    text = f"Ablating a function's neurons {said} at dose {first['dose']:g} beside control {first['control']} (q ≤ .05)"
    text += f"; another function is harmed in {n_other} of {len(others):,} pairs."
    return chart.properties(usermeta=usermeta), text


@picture("dose-curves", asks="report_study")
def plot_dose_curves(rows: pl.DataFrame, _: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot how much an ablation harms the own and other functions beyond each control, by dose."""
    shown = rows.with_columns(panel="beside control " + pl.col("control"))
    axis, scale = alt.Axis(format="~%", tickCount=4), alt.Scale(domainMin=0)
    x = alt.X("dose:Q", title="neurons ablated", scale=scale, axis=axis)
    chart = panels(lines(shown, x, "difference", "worse than control", "functions", _FUNCTIONS, rule=True), shown)
    p = pl.max_horizontal("selectivity_p_texts", pl.col("selectivity_p_functions").fill_null(1))
    own = rows.filter(pl.col("functions") == "own function", pl.col("control") != "none").with_columns(p=p)
    # A dose counts where the selectivity is there beside every control.
    of_doses = own.sort("p").group_by("dose").agg(pl.col("selectivity").min(), pl.all().exclude("selectivity").last())
    held = of_doses.filter(pl.col("selectivity") > 0, pl.col("p") <= LEVEL).sort("dose", descending=True)
    if own.is_empty():
        return chart, "No function whose neurons are ablated is read out beside a control: nothing is shown of it."
    if held.is_empty():
        text = "At no dose does the ablation harm the own functions more than others beyond every control"
        return chart, f"{text}: no selective effect is shown."
    row = held.row(0, named=True)
    worse = f"with {row['dose']:.1%} of neurons the own function is worse by {signed(row['selectivity'], 3)} at least"
    text = f"The ablation is selective: {worse} more than others, beyond every control ({p_text(row['p'])})"
    return chart, f"{text}; so at {plural(len(held), 'dose')} of {len(of_doses)}."
