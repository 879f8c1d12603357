"""The chart of a native mixture: which experts the router chooses for which functions."""

import altair as alt
import polars as pl

from .picture import LEVEL, p_text, picture, plural, sign_test, told_apart
from .style import cells
from .subjects import Subject

_MOST_FUNCTIONS = 60


@picture("routing")
def plot_routing(rows: pl.DataFrame, _: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot how much more of a function's tokens the router sends to each native expert, in one layer.

    Parameters and errors are those of `plot_specialised_neurons`.

    Examples
    --------
    >>> neuronlake.plot_routing(neuronlake.open("neuronlake-store"), "tiny-bert")
    Traceback (most recent call last):
    neuronlake.errors.AnalysisError: ...
    """
    rows = told_apart(rows, function="family")
    spread, is_found = pl.col("difference").abs(), pl.col("q_value") <= 0.05
    layers = rows.group_by("stack", "layer").agg(n=is_found.sum(), spread=spread.mean())
    layer = layers.sort("n", "spread", "layer", descending=[True, True, False]).head(1)
    shown = rows.join(layer, on=["stack", "layer"], how="semi", maintain_order="left")
    widest = shown.group_by("function").agg(spread.max()).sort("difference", "function", descending=[True, False])
    names = widest["function"].head(_MOST_FUNCTIONS).to_list()
    shown = shown.filter(pl.col("function").is_in(names))
    title = f"native expert of {layer['stack'][0]} layer {layer['layer'][0]}"
    x = alt.X("native_expert:O", title=title, axis=alt.Axis(labelAngle=0, labelOverlap=True))
    chart = cells(shown, x, alt.Y("function:N", title=None, sort=names), title="more of its tokens")
    usermeta = {"panels": 1, "most": 260 + 44 * shown["native_expert"].n_unique()}
    chart = chart.properties(width=420, height=alt.Step(15), usermeta=usermeta)
    tested, found = plural(len(rows), "pair") + " of native expert and function", rows.filter(is_found)
    if found.is_empty():
        return (
            chart,
            f"None of {tested} differs from chance (q ≤ .05): the router is not shown to choose by function.",
        )
    most = found.sort("q_value", "layer", "native_expert").row(0, named=True)
    return chart, (
        f"{_beyond_random(rows)}{len(found):,} of {tested} differ from chance (q ≤ .05), of "
        f"{found['function'].n_unique()} of {plural(rows['function'].n_unique(), 'function')}. The clearest is expert "
        f"{most['native_expert']} of layer {most['layer']}, with {most['share_positive']:.1%} of the tokens of "
        f"{most['function']} and {most['share_negative']:.1%} of the others'."
    )


def _beyond_random(rows: pl.DataFrame) -> str:
    """Return what is claimed of the router: nothing where a random one that saw the same tokens is not known."""
    beyond = pl.col("difference").abs() - pl.col("random_difference").abs()
    by_function = rows.group_by("function").agg(beyond.mean())["difference"].drop_nulls()
    if by_function.is_empty():
        return "Without a random router, which chooses by the token too, no specialisation is claimed: "
    n_above, p = int((by_function > 0).sum()), sign_test(by_function)
    counted = f"{n_above} of {plural(len(by_function), 'function')} move it more than a random router ({p_text(p)})"
    return f"The router is specialised: {counted}; " if p <= LEVEL else f"No specialisation is shown: {counted}; "
