"""What is written of an exhibit: its rows, its picture, and its part of the page."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import polars as pl
import vl_convert

FOLDER = Path(__file__).parent
_COLOURS = ("#3b7fc4", "#8a8f98", "#d9731a", "#a05195")
_ABSENT = "not known as a number"
_COUNT = "tasks harmed most by their own neurons"  # of another unit than the picture


@dataclass(frozen=True)
class Exhibit:
    """One figure or table of the paper."""

    name: str
    title: str
    claim: str  # what the paper says it shows
    measured: str  # what is ours
    control: str
    # The axes of the picture, and the columns that are drawn with their names in the legend; without any, quantities
    # are "panel: line"
    x: str
    y: str
    lines: Mapping[str, str]

    @property
    def query(self) -> str:
        """The SQL, without its last newline."""
        return (FOLDER / f"{self.name}.sql").read_text().rstrip()


def exhibits() -> list[Exhibit]:
    """Return all exhibits, in the order of the page."""
    read = tomllib.loads((FOLDER / "exhibits.toml").read_text(encoding="utf-8"))
    return [Exhibit(name, **values) for name, values in read.items()]


def authors(exhibit: Exhibit) -> pl.DataFrame:
    """Return what the authors report, as text: a row a model, quantity and place along the width."""
    table = pl.read_csv(FOLDER / "authors.csv", infer_schema=False).filter(pl.col("exhibit") == exhibit.name)
    return table.with_columns(pl.col("x").cast(pl.Float64))


def compared(exhibit: Exhibit, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the table of an exhibit: each quantity with the authors' value and control beside ours."""
    theirs = authors(exhibit)
    has_places = theirs["x"].is_not_null().any()
    shown = rows.filter(pl.col("x").is_not_null() == has_places).with_columns(
        architecture=pl.when(pl.col("model").str.contains("(?i)switch")).then(pl.lit("Switch")).otherwise(pl.lit("T5")),
        place=pl.col("x").cast(pl.Float64).fill_null(-1).round(2),
    )
    theirs = theirs.with_columns(place=pl.col("x").fill_null(-1).round(2)).drop("exhibit", "x")
    joined = shown.join(
        theirs, left_on=("architecture", "quantity", "place"), right_on=("model", "quantity", "place"), how="left"
    )
    own = [name for name in rows.columns if name not in ("model", "quantity", "x")]
    known = [name for name in ("authors", "authors_control", "authors_unrestricted") if joined[name].count()]
    known = list(dict.fromkeys(("authors", "authors_control", *known)))
    columns = ["model", "quantity", *(["x"] if has_places else []), *known, *own, "source"]
    return joined.select(columns).with_columns(pl.col("authors").fill_null(_ABSENT))


def picture(exhibit: Exhibit, rows: pl.DataFrame) -> str:
    """Return an exhibit's chart as SVG."""
    drawn = rows.filter(pl.col("x").is_not_null(), pl.col("quantity") != _COUNT)
    if not exhibit.lines:
        parts = pl.col("quantity").str.split_exact(": ", 1)
        drawn = drawn.with_columns(
            panel=pl.concat_str("model", parts.struct[0], separator=", "), line=parts.struct[1], value=pl.col("ours")
        )
        names = drawn["line"].unique(maintain_order=True).sort().to_list()
    else:
        drawn = drawn.with_columns(panel=pl.concat_str("model", "quantity", separator=", ")).unpivot(
            on=list(exhibit.lines), index=["panel", "x"], variable_name="line", value_name="value"
        )
        drawn = drawn.with_columns(pl.col("line").replace(dict(exhibit.lines)))
        names = list(exhibit.lines.values())
    drawn = drawn.select("panel", "x", "line", "value").drop_nulls("value")
    scale = alt.Scale(domain=names, range=list(_COLOURS[: len(names)]))
    colour = alt.Color("line:N", scale=scale, legend=alt.Legend(title=None, orient="top", labelLimit=300))
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=names), legend=None)
    places = sorted(set(drawn["x"].to_list()))
    is_counted = exhibit.x in ("layer", "seed")
    axis = alt.Axis(grid=False, **({"values": places, "format": "d"} if is_counted else {"tickCount": 5}))
    base = alt.Chart(drawn).encode(
        x=alt.X("x:Q", title=exhibit.x, scale=alt.Scale(zero=False, nice=False, padding=8), axis=axis),
        y=alt.Y("value:Q", title=exhibit.y, scale=alt.Scale(zero=False)),
        color=colour,
    )
    layers = base.mark_line(strokeWidth=2).encode(strokeDash=dash) + base.mark_point(filled=True, size=32, opacity=1)
    facet = alt.Facet("panel:N", title=None, header=alt.Header(labelFontWeight="bold", labelAnchor="start"))
    panels = layers.properties(width=190, height=120).facet(facet, columns=3)
    chart = panels.properties(background="white")
    return vl_convert.vegalite_to_svg(json.dumps(chart.to_dict()))


def section(exhibit: Exhibit, command: str, table: pl.DataFrame) -> str:
    """Return an exhibit's part of the page."""
    return f"""## {exhibit.title}

- *The paper:* {exhibit.claim}
- *Ours:* {exhibit.measured}
- *Control:* {exhibit.control}

    {command}

![{exhibit.title}]({exhibit.name}.svg)

{_markdown(table)}

```sql
{exhibit.query}
```
"""


def _markdown(table: pl.DataFrame) -> str:
    def cell(value: object) -> str:
        if value is None:
            return "–"
        return f"{value:,.4g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(name.replace("_", " ") for name in table.columns) + " |"]
    lines.append("|" + "---|" * len(table.columns))
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in table.iter_rows()]
    return "\n".join(lines)
