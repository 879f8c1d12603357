"""What all charts share: colours that colour-blind eyes tell apart, axes, and two ways to draw."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import altair as alt
import polars as pl

BLUE, ORANGE, GREY, PURPLE = "#3b7fc4", "#d9731a", "#8a8f98", "#a05195"
# A chart inks in the colour of the text around it, so that one drawing serves light, dark and paper.
INK = "currentColor"
_DASHES = ([1, 0], [5, 3], [2, 2], [8, 3, 2, 3])
_TEXT = {"labelColor": INK, "titleColor": INK, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"}
_AXIS: dict[str, Any] = {f"{part}Color": INK for part in ("domain", "tick", "grid")}
_AXIS |= {"domainOpacity": 0.4, "tickOpacity": 0.4, "gridOpacity": 0.12}
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif",
    "view": {"stroke": None},
    "axis": _TEXT | _AXIS | {"labelLimit": 170},
    "axisX": {"grid": False, "labelFlush": False},
    "legend": _TEXT | {"orient": "top", "labelLimit": 240, "symbolStrokeWidth": 2, "titleLimit": 0},
    "header": _TEXT | {"labelFontSize": 12, "labelFontWeight": "bold", "labelAnchor": "start", "labelOrient": "top"},
    "facet": {"spacing": 28},
}
LAYERS = alt.X("layer:Q", axis=alt.Axis(format="d", tickMinStep=1))
_HIDDEN = {"panel", "place", "stack", "is_random_init"}


def tooltip(rows: pl.DataFrame) -> list[alt.Tooltip]:
    """Return a tooltip of all columns: counts as they are, other numbers to three digits."""
    return [
        alt.Tooltip(f"{name}:{'Q' if kind.is_numeric() else 'N'}", title=name.replace("_", " "),
                    format=".3~g" if kind.is_float() else "")
        for name, kind in rows.schema.items() if name not in _HIDDEN
    ]  # fmt: skip


def lines(
    rows: pl.DataFrame, x: alt.X, y: str, title: str, group: str, colours: Mapping[str, str], *, rule: bool = False
) -> alt.LayerChart:
    """Return lines with points and a band from ``low`` to ``high``, one of each group, told apart by dashes too.

    `y` is a column and `title` that of its axis; a `rule` is horizontal, at 0: chance.
    """
    known = [name for name in colours if name in set(rows[group])]
    legend = alt.Legend(title=None, columns=2, symbolType="stroke", symbolSize=260, symbolOpacity=1)
    scale = alt.Scale(domain=known, range=[colours[name] for name in known])
    base = coloured = alt.Chart(rows).encode(x=x, color=alt.Color(f"{group}:N", scale=scale, legend=legend))
    if len(known) <= len(_DASHES):  # others are told apart by colour alone
        dashes = alt.Scale(domain=known, range=list(_DASHES[: len(known)]))
        base = coloured.encode(strokeDash=alt.StrokeDash(f"{group}:N", scale=dashes, legend=legend))
    height = alt.Y(f"{y}:Q", title=title)
    layers: list[Any] = [
        base.mark_line(strokeWidth=2, aria=False).encode(y=height),
        # Points are what is pointed at, and read aloud.
        base.mark_point(filled=True, size=36, opacity=1, strokeDash=[1, 0]).encode(y=height, tooltip=tooltip(rows)),
    ]
    if {"low", "high"} <= set(rows.columns):
        area = coloured.mark_area(opacity=0.14, aria=False)
        layers.insert(0, area.encode(y=alt.Y("low:Q", title=title), y2="high:Q"))
    if rule:
        # One rule a panel, not one a row.
        panel: list[Any] = ["panel"] * ("panel" in rows.columns)
        once = alt.Chart(rows).transform_aggregate(n="count()", groupby=panel)
        layers.insert(0, once.mark_rule(opacity=0.5, color=INK, aria=False).encode(y=alt.datum(0)))
    return cast("alt.LayerChart", alt.layer(*layers))


def panels(chart: alt.LayerChart, rows: pl.DataFrame) -> alt.FacetChart:
    """Return a chart once for each value of the column ``panel``, beside each other."""
    names = sorted(set(rows["panel"]))
    facet = alt.Facet("panel:N", sort=names, title=None)
    faceted = chart.properties(width=190, height=150).facet(facet, columns=min(3, len(names)))
    return faceted.properties(usermeta={"panels": len(names)})


def by_family(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the column ``panel``: the family, with the stack where a model has two."""
    several = rows["stack"].n_unique() > 1
    return rows.with_columns(panel=pl.concat_str("family", "stack", separator=", ") if several else pl.col("family"))


def cells(rows: pl.DataFrame, x: alt.X, y: alt.Y, *, title: str, is_framed: Any = None) -> alt.Chart:  # noqa: ANN401
    """Return a map of ``difference``, blue above 0 and orange below, the paler the nearer; framed where `is_framed`."""
    most = cast("float", rows["difference"].abs().max() or 1)
    colours = [ORANGE, "rgba(217, 115, 26, 0.03)", "rgba(59, 127, 196, 0.03)", BLUE]
    scale = alt.Scale(domain=[-most, -most * 1e-6, most * 1e-6, most], range=colours, clamp=True)
    legend = alt.Legend(gradientLength=180, gradientThickness=9, tickCount=5, format=".2~f")
    chart: alt.Chart = alt.Chart(rows).mark_rect(cornerRadius=1.5, strokeWidth=1.5)
    if is_framed is not None:
        chart = chart.encode(stroke=alt.when(is_framed).then(alt.value(INK)).otherwise(alt.value(None)))
    colour = alt.Fill("difference:Q", title=title, scale=scale, legend=legend)
    return chart.encode(x=x, y=y, fill=colour, tooltip=tooltip(rows))


def steps_axis(steps: Sequence[int]) -> alt.X:
    """Return the axis of training steps: by their logarithm where they are spaced so, with 0 at its start."""
    known = sorted(set(steps))
    above = [step for step in known if step > 0]
    if not above or above[-1] <= 40 * above[0]:
        return alt.X("step:Q", title="training step", axis=alt.Axis(tickCount=4, format=",d"))
    powers = [10**power for power in range(12) if above[0] <= 10**power <= above[-1]]
    scale = alt.Scale(type="symlog", constant=above[0], domain=[known[0], known[-1]])
    axis = alt.Axis(values=[float(step) for step in [*known[:1], *powers]], format="~s")
    return alt.X("step:Q", title="training step, log scale", scale=scale, axis=axis)
