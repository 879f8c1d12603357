"""Charts of experts: which hold a function's top neurons, beside groups and controls, and which a router chooses."""

import math

import altair as alt
import polars as pl

from ..errors import plural
from .picture import LEVEL, Subject, p_text, picture, sign_test, told_apart
from .style import BLUE, GREY, LAYERS, ORANGE, PURPLE, by_family, cells, lines, panels

_MOST_ROUTED = 60  # functions
_GROUPS = {"experts": BLUE, "random groups": GREY, "matched groups": PURPLE, "control functions": ORANGE}


@picture("experts", asks="report_partition", example="alt.FacetChart(...)")
def plot_expert_enrichment(rows: pl.DataFrame, subject: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot the enrichment of functional experts by layer, beside random and matched groups and control functions."""
    shown = by_family(rows)
    chart = lines(shown, LAYERS, "enrichment", "enrichment", "groups", _GROUPS)
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


@picture("routing")
def plot_routing(rows: pl.DataFrame, _: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot how much more of a function's tokens the router sends to each native expert, in one layer."""
    rows = told_apart(rows, function="family")
    spread, is_found = pl.col("difference").abs(), pl.col("q_value") <= 0.05
    layers = rows.group_by("stack", "layer").agg(n=is_found.sum(), spread=spread.mean())
    layer = layers.sort("n", "spread", "layer", descending=[True, True, False]).head(1)
    shown = rows.join(layer, on=["stack", "layer"], how="semi", maintain_order="left")
    widest = shown.group_by("function").agg(spread.max()).sort("difference", "function", descending=[True, False])
    names = widest["function"].head(_MOST_ROUTED).to_list()
    shown = shown.filter(pl.col("function").is_in(names))
    title = f"native expert of {layer['stack'][0]} layer {layer['layer'][0]}"
    x = alt.X("native_expert:O", title=title, axis=alt.Axis(labelAngle=0, labelOverlap=True))
    chart = cells(shown, x, alt.Y("function:N", title=None, sort=names), title="more of its tokens")
    usermeta = {"panels": 1, "most": 260 + 44 * shown["native_expert"].n_unique()}
    chart = chart.properties(width=420, height=alt.Step(15), usermeta=usermeta)
    tested, found = plural(len(rows), "pair") + " of native expert and function", rows.filter(is_found)
    if found.is_empty():
        text = f"None of {tested} differs from chance (q ≤ .05): the router is not shown to choose by function."
        return chart, text
    most = found.sort("q_value", "layer", "native_expert").row(0, named=True)
    functions = f"{found['function'].n_unique()} of {plural(rows['function'].n_unique(), 'function')}"
    text = f"{_beyond_random(rows)}{len(found):,} of {tested} differ from chance (q ≤ .05), of {functions}."
    clearest = f"expert {most['native_expert']} of layer {most['layer']}, with {most['share_positive']:.1%}"
    others = f"{most['share_negative']:.1%} of the others'"
    return chart, f"{text} The clearest is {clearest} of the tokens of {most['function']} and {others}."


def _beyond_random(rows: pl.DataFrame) -> str:
    """Return what is claimed of the router: nothing where a random one that saw the same tokens is not known."""
    beyond = pl.col("difference").abs() - pl.col("random_difference").abs()
    by_function = rows.group_by("function").agg(beyond.mean())["difference"].drop_nulls()
    if by_function.is_empty():
        return "Without a random router, which chooses by the token too, no specialisation is claimed: "
    n_above, p = int((by_function > 0).sum()), sign_test(by_function)
    counted = f"{n_above} of {plural(len(by_function), 'function')} move it more than a random router ({p_text(p)})"
    return f"The router is specialised: {counted}; " if p <= LEVEL else f"No specialisation is shown: {counted}; "
