"""Charts of a perturbation study: source × target, and how effects grow with the dose."""

import altair as alt
import polars as pl

from ..queries.database import Database
from .picture import LEVEL, p_text, picture, plural, signed, told_apart
from .style import BLUE, GREY, INK, cells, lines, panels
from .subjects import Subject

_FUNCTIONS = {"own function": BLUE, "other functions": GREY}


def _study(database: Database, subject: Subject) -> dict[str, object] | None:
    """Return the last study of a subject's run, its selection, largest dose and strictest control.

    One that reads out its sources comes before one that does not; of a family, one that has sources of it.
    """
    query = (
        "select perturbation_id, selection, dose, control from perturbation_specificity as study "
        "inner join (select perturbation_id, started_at from perturbation_studies) using (perturbation_id) "
        "where run_id = ? and (? is null or exists (from perturbation_effects as effect where "
        "(effect.perturbation_id, effect.selection, effect.dose, effect.control) = "
        "(study.perturbation_id, study.selection, study.dose, study.control) and effect.source_family = ?)) "
        "order by n_sources = 0, started_at desc, dose desc, "
        "list_position(['matched', 'random', 'nonfunctional', 'other', 'none'], control), selection limit 1"
    )
    return next(iter(database.sql(query, [subject.run_id, subject.family, subject.family])), None)


def _curves(database: Database, subject: Subject) -> dict[str, object] | None:
    """Return the study whose dose curves are shown; None for a family, as its means are of all its sources."""
    return None if subject.family else _study(database, subject)


@picture("perturbed-functions", asks=_study)
def plot_perturbed_functions(rows: pl.DataFrame, _: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot what ablating each function's neurons does to every function, at the largest dose.

    Parameters and errors are those of `plot_specialised_neurons`.

    Examples
    --------
    >>> neuronlake.plot_perturbed_functions(neuronlake.open("neuronlake-store"), "tiny-bert")
    Traceback (most recent call last):
    neuronlake.errors.AnalysisError: ...
    """
    rows = told_apart(rows, source="source_family", target="target_family")
    sources = rows["source"].unique(maintain_order=True).to_list()
    targets = list(dict.fromkeys([*sources, *rows["target"]]))
    x = alt.X("target:N", sort=targets, title="function read out", axis=alt.Axis(labelAngle=-90, labelLimit=120))
    y = alt.Y("source:N", sort=sources, title="neurons ablated")
    effects = cells(rows, x, y, title="worse than the control", is_framed=alt.datum.is_on_target)
    cross = alt.Chart(rows).mark_point(shape="cross", size=22, filled=True, color=INK, opacity=1, aria=False)
    crossed = cross.encode(
        x=x, y=y, opacity=alt.when(alt.datum.is_significant).then(alt.value(1)).otherwise(alt.value(0))
    )
    chart = alt.layer(effects, crossed).properties(width=420, height=alt.Step(17))
    usermeta = {"panels": 1, "most": 300 + 44 * len(targets)}
    harmed = {
        is_own: (int((part["is_significant"] & (part["difference"] > 0)).sum()), len(part))
        for (is_own,), part in rows.group_by("is_on_target")
    }
    first, (n_own, n_sources), (n_other, n_pairs) = rows.row(0, named=True), *(harmed.get(k, (0, 0)) for k in (1, 0))
    where = f"at dose {first['dose']:g} beside control {first['control']} (q ≤ .05)"
    said = (
        f"harms that function in {n_own} of {plural(n_sources, 'source')}"
        if n_own
        else "is not shown to harm that function"
        if n_sources
        else "may harm that function, which is not read out,"
    )
    text = (
        f"Ablating a function's neurons {said} {where}; another function is harmed in {n_other} of {n_pairs:,} pairs."
    )
    return chart.properties(usermeta=usermeta), text


@picture("dose-curves", asks=_curves)
def plot_dose_curves(rows: pl.DataFrame, _: Subject) -> tuple[alt.TopLevelMixin, str]:
    """Plot how much an ablation harms the own and other functions beyond each control, by dose.

    Parameters and errors are those of `plot_specialised_neurons`.

    Examples
    --------
    >>> neuronlake.plot_dose_curves(neuronlake.open("neuronlake-store"), "tiny-bert")
    Traceback (most recent call last):
    neuronlake.errors.AnalysisError: ...
    """
    shown = rows.with_columns(panel="beside control " + pl.col("control"))
    axis, scale = alt.Axis(format="~%", tickCount=4), alt.Scale(domainMin=0)
    x = alt.X("dose:Q", title="neurons ablated", scale=scale, axis=axis)
    chart = panels(lines(shown, x, "difference", "worse than control", "functions", _FUNCTIONS, rule=0), shown)
    p = pl.max_horizontal("selectivity_p_texts", pl.col("selectivity_p_functions").fill_null(1))
    own = rows.filter(pl.col("functions") == "own function", pl.col("control") != "none").with_columns(p=p)
    # A dose counts where the selectivity is there beside every control.
    of_doses = own.sort("p").group_by("dose").agg(pl.col("selectivity").min(), pl.all().exclude("selectivity").last())
    held = of_doses.filter(pl.col("selectivity") > 0, pl.col("p") <= LEVEL).sort("dose", descending=True)
    if own.is_empty():
        return chart, "No function whose neurons are ablated is read out beside a control: nothing is shown of it."
    if held.is_empty():
        text = "At no dose does the ablation harm the own functions more than others beyond every control."
        return chart, f"{text[:-1]}: no selective effect is shown."
    row = held.row(0, named=True)
    more = signed(row["selectivity"], 3)
    return chart, (
        f"The ablation is selective: with {row['dose']:.1%} of neurons the own function is worse by "
        f"{more} at least more than others, beyond every control ({p_text(row['p'])}); so at "
        f"{plural(len(held), 'dose')} of {len(of_doses)}."
    )
