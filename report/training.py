"""Charts of a series of checkpoints: when specialisation appears, and when scores settle, beside dead neurons."""

from typing import Any

import altair as alt
import polars as pl

from ..errors import plural
from .picture import LEVEL, Subject, picture, sign_test, signed
from .style import BLUE, GREY, INK, ORANGE, PURPLE, by_family, lines, panels, steps_axis, tooltip

_SETTLED = 0.7
_UNITS = {"experts": BLUE, "neurons": ORANGE, "random groups": GREY, "matched groups": PURPLE}
_FAMILIES = (BLUE, ORANGE, PURPLE, "#4c9a6a", "#c05a7a", "#7a7f2a")


@picture("training", asks="report_series")
def plot_training(rows: pl.DataFrame, _: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot the held-out lift of each family at each checkpoint."""
    lift, error = pl.col("lift").mean(), 2 * pl.col("lift").std() / pl.len().sqrt()
    means = rows.group_by("step", "family").agg(lift=lift, low=lift - error, high=lift + error, n_functions=pl.len())
    last = means.filter(pl.col("step") == pl.col("step").max()).sort("lift", "family", descending=[True, False])
    families = sorted(last["family"].head(len(_FAMILIES)))
    shown = means.filter(pl.col("family").is_in(families)).sort("family", "step")
    colours = dict(zip(families, _FAMILIES, strict=False))
    chart = lines(shown, steps_axis(rows["step"].to_list()), "lift", "held-out lift", "family", colours, rule=True)
    n_steps, compared, is_lacking = rows["step"].n_unique(), {}, pl.lit(value=False)
    for column, name in (("control_lift", "control functions"), ("random_lift", "the random initialisation")):
        # Checkpoints measured without it are compared with what else there is; functions without it leave the test.
        if n_known := rows.filter(pl.col(column).is_not_null())["step"].n_unique():
            compared[column] = name if n_known == n_steps else f"{name} (known at {n_known} of {n_steps} checkpoints)"
            is_lacking |= pl.col(column).is_null() & (pl.col(column).count().over("step") > 0)
    beyond = pl.when(~is_lacking).then(pl.col("lift") - pl.max_horizontal(*compared, pl.lit(0.0)))
    by_step = rows.select("step", beyond=beyond).group_by("step").agg("beyond")
    steps = {step: sign_test(values) <= LEVEL for step, values in by_step.iter_rows()}
    missed = max((step for step, is_shown in steps.items() if not is_shown), default=-1)
    since = min((step for step in steps if step > missed), default=None)
    drawn = last.filter(pl.col("family").is_in(families)).sort("family")
    at_last = ", ".join(f"{signed(row['lift'])} for {row['family']}" for row in drawn.iter_rows(named=True))
    if len(last) > len(families):
        at_last += f"; of {len(last)} families the {len(families)} with the highest are drawn"
    n, versus = rows["function"].n_unique(), " and ".join(compared.values()) or "chance"
    than = f"a held-out lift above {versus} than a coin gives (p ≤ {LEVEL:g}). At the last it is {at_last}."
    text = f"No specialisation is shown: at the last checkpoint no more of {plural(n, 'function')} have {than}"
    if since is not None:
        shown_since = f"Neurons are specialised from step {since:,} on: at each checkpoint since,"
        text = f"{shown_since} more of {plural(n, 'function')} have {than}"
    return chart.properties(width=420, height=200, usermeta={"panels": 1}), text


@picture("settling", asks="report_stabilities")
def plot_settling(rows: pl.DataFrame, _: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot how alike scores at each checkpoint are to those at the last, of neurons, experts and other groups."""
    shown, x = by_family(rows), steps_axis(rows["step"].to_list())
    curves = lines(shown, x, "correlation", "correlation with the last", "units", _UNITS)
    dotted = alt.Chart(shown).mark_line(color=INK, opacity=0.55, strokeWidth=1, strokeDash=[1, 3], aria=False)
    ceiling = dotted.encode(x=x, y="ceiling:Q").transform_filter(alt.datum.units == "neurons")
    both: Any = alt.layer(ceiling, *curves.layer, data=shown)
    return panels(both, shown), f"{_settled(shown)}."


@picture("dead-neurons", asks="report_stabilities")
def plot_dead_neurons(rows: pl.DataFrame, _: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot the share of neurons that are dead at each checkpoint."""
    y = alt.Y("share_dead:Q", title="dead neurons", axis=alt.Axis(format=".1%", tickCount=3))
    bars = alt.Chart(rows).mark_bar(color=GREY, size=9)
    chart = bars.encode(x=steps_axis(rows["step"].to_list()), y=y, tooltip=tooltip(rows))
    most = rows.sort("n_dead", descending=True).row(0, named=True)
    share = f"{most['share_dead']:.1%} of {plural(most['n_neurons'], 'neuron')}"
    text = f"Up to {share} are dead, {most['n_dead']:,} at step {most['step']:,}."
    return chart.properties(width=420, height=90, usermeta={"panels": 1}), text


def _settled(shown: pl.DataFrame) -> str:
    """Return from which step on curves stay above the level, by family."""
    said: dict[object, list[str]] = {}
    for (family, units), curve in shown.sort("panel", "units", "step").group_by("panel", "units", maintain_order=True):
        below = curve.filter(pl.col("correlation").fill_null(-1) < _SETTLED)["step"].to_list()
        steps = curve.filter(pl.col("step") > max(below, default=-1))["step"]
        if curve["correlation"].count() > 1 and len(steps):
            said.setdefault(family, []).append(f"{units} from step {steps[0]:,}")
    if not said:
        return "The scores hold too little signal to say when anything settles"
    listed = "; for ".join(f"{family}: {', '.join(each)}" for family, each in said.items())
    text = f"Scores stay correlated with the last checkpoint at {_SETTLED:g} or more for {listed}"
    return f"{text}; only what experts have beyond matched groups is theirs"
