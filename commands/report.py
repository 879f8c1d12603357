"""Pictures of a store: ``neuronlake report``."""

from pathlib import Path

import click

from . import stored
from .groups import StoreCommand
from .printing import echo, note, open_database


@click.command(cls=StoreCommand)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The page.  [default: report.html]"
)
@click.option(
    "--figures", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write figures for a paper to DIR instead: SVG, PDF, PNG, CSV and a caption each.",
)  # fmt: skip
@click.option("--model", type=stored.MODEL, help="Only this model.  [default: all]")
@click.option("--corpus", type=stored.CORPUS, help="Only this corpus.  [default: all]")
@click.option("--family", type=stored.FAMILY, help="Only functions of this family.  [default: all]")
def report(output: Path | None, figures: Path | None, **options: str | None) -> None:
    """Picture what the store holds, as one HTML page.

    The page needs nothing else and makes no request: charts with a sentence made from their numbers, the SQL and data
    behind each, and cards of neurons.
    """
    from ..report.figures import write_figures
    from ..report.page import write_report

    if figures is not None:
        if output is not None:
            raise click.UsageError("--figures writes figures instead of the page; it takes no -o")
        for path in write_figures(open_database(), figures, **options):
            echo(str(path))
        return
    path = write_report(open_database(), output or Path("report.html"), **options)
    note(f"{path}: {path.stat().st_size / 1e6:.1f} MB")  # no line of a page that goes to standard output
