"""What a store holds and lacks, its pictures, and what goes from it: ``status``, ``runs``, ``report``, ``remove``."""

from pathlib import Path

import click

from ..schema.vocabulary import Format
from . import stored
from .groups import StoreCommand
from .options import FILE, rows_options
from .printing import chosen_store, echo, named_stores, note, open_database, print_rows, typed


@click.command(cls=StoreCommand)
@rows_options
def status(format_: Format | None, output: Path | None) -> None:
    """Say what the store holds and lacks, and what to run next.

    The commands name a model as the store does: of one that was measured from a folder, give the folder, and --name.
    Where the store is only read (a FILE, a URL, or several), DIR stands for the folder of one to write.
    """
    from .. import store_status

    stores = named_stores()
    written = () if len(stores) == 1 and Path(stores[0]).is_dir() else ("DIR",)
    found = store_status(stores)
    if format_ is not None or output is not None:
        print_rows(found, format_, output)
        return
    for row in found:
        if row["part"] == "holds":
            echo(f"{row['n']:>6,}  {row['what']}: {row['names']}")
            continue
        echo(f"\n# {row['what']}: {row['names'] or row['n']}")
        if row["command"]:
            echo(typed(str(row["command"]).removeprefix("neuronlake "), written))


@click.command(cls=StoreCommand)
@click.option("--all", "with_others", is_flag=True, help="List all jobs: corpora, partitions and studies too.")
@rows_options
def runs(with_others: bool, format_: Format | None, output: Path | None) -> None:
    """List runs: settings, dates, sizes, what depends on each.

    Sizes are with what was added to a run, such as control functions and highlights. With --all every job is listed
    by itself, with the jobs that it depends on and those that depend on it.
    """
    from .. import list_jobs, list_runs

    print_rows((list_jobs if with_others else list_runs)(named_stores()), format_, output)


@click.command(cls=StoreCommand)
@click.option("-o", "--output", type=FILE, help="The page.  [default: report.html]")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Write figures for a paper to DIR instead: SVG, PDF, PNG, CSV and a caption each.")  # fmt: skip
@click.option("--model", type=stored.MODEL, help="Only this model.  [default: all]")
@click.option("--corpus", type=stored.CORPUS, help="Only this corpus.  [default: all]")
@click.option("--family", type=stored.FAMILY, help="Only functions of this family.  [default: all]")
def report(output: Path | None, figures: Path | None, **options: str | None) -> None:
    """Picture what the store holds, as one HTML page.

    The page needs nothing else and makes no request: charts with a sentence made from their numbers, the SQL and data
    behind each, and cards of neurons.
    """
    from .. import write_figures, write_report

    if figures is not None:
        if output is not None:
            raise click.UsageError("--figures writes figures instead of the page; it takes no -o")
        for path in write_figures(open_database(), figures, **options):
            echo(str(path))
        return
    path = write_report(open_database(), output or Path("report.html"), **options)
    note(f"{path}: {path.stat().st_size / 1e6:.1f} MB")  # no line of a page that goes to standard output


@click.command(cls=StoreCommand)
@click.argument("names", nargs=-1, required=True, type=stored.JOB, metavar="JOB...")
@click.option("--with-dependents", is_flag=True, help="Remove the jobs that depend on them too.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def remove(names: tuple[str, ...], with_dependents: bool, dry_run: bool) -> None:
    """Remove runs, partitions, studies or corpora.

    A JOB is an id or its first digits, or a corpus. It stays if another job depends on it, unless that goes too; what
    was added to a run goes with it.
    """
    from .. import remove_jobs

    echo(remove_jobs(chosen_store(), names, with_dependents=with_dependents, dry_run=dry_run).describe())
