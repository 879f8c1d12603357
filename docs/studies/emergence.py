"""Draw the pictures of emergence.md: ``python docs/studies/emergence.py STORE``; needs the extra report."""

import sys
from pathlib import Path

import altair as alt
import polars as pl

import neuronlake

FOLDER = Path(__file__).parent
LEVELS = ["experts", "neurons", "matched groups", "random groups"]
COLOURS = ["#d1495b", "#30638e", "#c8a24a", "#9aa5b1"]

CURVES = """
    with studied as (
        select emergence_id, studies.last_run_id, partition_id, role
        from emergence_studies as studies
        inner join emergence_partitions as partitions using (emergence_id)
        where partitions.run_id = studies.last_run_id and role != 'warm'
    )

    select
        curves.model,
        family,
        reference,
        step,
        case when level = 'neuron' then 'neurons' when role in ('random', 'matched') then role || ' groups'
            else 'experts' end as level,
        avg(correlation) as uncorrected,
        avg(corrected_correlation) as corrected,
    from stability_curves as curves
    inner join studied using (last_run_id, partition_id)
    where not has_twin and (level != 'neuron' or role not in ('random', 'matched'))
    group by all
    order by all
"""

CHANGES = """
    select
        model,
        step,
        case
            when reference = 'seed' then 'other seed, same checkpoint'
            else reference || ', ' || role
        end as comparison,
        avg(adjusted_rand_index) as adjusted_rand_index,
    from partition_changes
    group by all
    order by all
"""


def steps(title: str = "training step") -> alt.X:
    """Return the axis of steps: log-spaced, step 0 at its left end."""
    return alt.X("step:Q", title=title).scale(type="symlog", constant=8).axis(values=[0, 8, 32, 128, 512, 2048])


def draw_stability(curves: pl.DataFrame, reference: str) -> alt.Chart:
    """Return the curves of all models and families: as measured on the left, corrected on the right."""
    long = (
        curves.filter(reference=reference)
        .unpivot(["uncorrected", "corrected"], index=["model", "family", "level", "step"], variable_name="curve")
        .drop_nulls("value")
        .with_columns(row=pl.col("model") + ", " + pl.col("family"))
    )
    lines = (
        alt.Chart(long)
        .mark_line(point=alt.OverlayMarkDef(size=14))
        .encode(
            steps(),
            alt.Y("value:Q", title="Spearman").scale(domain=[-0.1, 1.1], clamp=True),
            alt.Color("level:N", title=None).scale(domain=LEVELS, range=COLOURS),
        )
    )
    rule = alt.Chart(long).mark_rule(strokeDash=[4, 4], color="#bbb").encode(y=alt.datum(0.9))
    return (
        alt.layer(lines, rule)
        .properties(width=260, height=110)
        .facet(
            row=alt.Row("row:N", title=None).header(labelAngle=0, labelAlign="left"),
            column=alt.Column("curve:N", title=None, sort=["uncorrected", "corrected"]),
        )
        .properties(title=f"Agreement with the {reference} checkpoint")
    )


def draw_changes(changes: pl.DataFrame) -> alt.Chart:
    """Return how the partition of each checkpoint agrees with others."""
    return (
        alt.Chart(changes)
        .mark_line(point=alt.OverlayMarkDef(size=14))
        .encode(
            steps(),
            alt.Y("adjusted_rand_index:Q", title="adjusted Rand index").scale(domain=[0, 1]),
            alt.Color("comparison:N", title=None),
        )
        .properties(width=280, height=160)
        .facet(facet=alt.Facet("model:N", title=None), columns=2)
    )


def main(store: str) -> None:
    """Draw all pictures."""
    with neuronlake.open(store) as database:
        curves = database.sql(CURVES).pl()
        changes = database.sql(CHANGES).pl()
    for reference in ("previous", "last"):
        draw_stability(curves, reference).save(FOLDER / f"emergence-{reference}.png", scale_factor=1.1)
    draw_changes(changes).save(FOLDER / "emergence-partitions.png", scale_factor=1.1)


if __name__ == "__main__":
    main(sys.argv[1])
