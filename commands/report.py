"""Pictures of a store: ``neuronlake report``."""

from pathlib import Path

import click

from .printing import echo, open_database


@click.command()
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default="report.html", help="The page."
)
@click.option(
    "--figures", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write figures for a paper to DIR instead: SVG, PDF, PNG, CSV and a caption each.",
)  # fmt: skip
@click.option("--model", help="Only this model.  [default: all]")
@click.option("--corpus", help="Only this corpus.  [default: all]")
@click.option("--family", help="Only functions of this family.  [default: all]")
@click.pass_context
def report(
    context: click.Context,
    output: Path,
    figures: Path | None,
    model: str | None,
    corpus: str | None,
    family: str | None,
) -> None:
    """Picture what the store holds, as one HTML page.

    The page needs nothing else and makes no request: charts with a sentence made from their numbers, the SQL and data
    behind each, and cards of neurons.
    """
    from ..report.figures import write_figures
    from ..report.page import write_report

    if figures is not None:
        if context.get_parameter_source("output") is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError("--figures writes figures instead of the page; it takes no -o")
        for path in write_figures(open_database(), figures, model=model, corpus=corpus, family=family):
            echo(str(path))
        return
    path = write_report(open_database(), output, model=model, corpus=corpus, family=family)
    echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
