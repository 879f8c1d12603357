"""The command line: each command parses, calls one function, prints.

Results go to standard output, progress and notes to standard error. Exit status 0, 1 with one line for an
expected failure, 2 for wrong usage. Commands import what they need, so that ``--help`` and ``sql`` are quick.
"""

from pathlib import Path

import click

from .commands.corpus import corpus
from .commands.emergence import emergence
from .commands.experts import align, describe, partition
from .commands.groups import Group
from .commands.ingest import ingest
from .commands.options import query_text, rows_options
from .commands.perturb import perturb
from .commands.printing import chosen_store, echo, open_database, print_rows, standard_output
from .commands.report import report
from .commands.share import share
from .commands.store import remove, runs
from .errors import printable
from .schema.vocabulary import Format

_SECTIONS = {
    "Measure": ("corpus", "ingest", "demo"),
    "Ask": ("sql", "shell", "tables", "views", "describe", "report"),
    "Analyse": ("partition", "align", "perturb", "emergence"),
    "Share": ("share",),
    "Store": ("runs", "remove", "check", "materialize"),
}


@click.group(
    cls=Group,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.version_option(package_name="neuronlake")
def main() -> None:
    """Ask what the neurons of transformers respond to: measure models, query with SQL."""


@main.command()
def demo() -> None:
    """Measure a small pretrained model, print findings and write a page of pictures.

    Three families of functions, on the pretrained weights and on a random initialisation of the same architecture.
    """
    from .analysis.sections import write_sections
    from .demo.run import findings, run_demo, try_next
    from .progress import show_progress
    from .report.page import write_report

    with show_progress() as progress:
        run = run_demo(chosen_store(), progress)
    with open_database() as database, standard_output() as stream:
        write_sections(database, findings(database, run), stream)
        page = write_report(database, chosen_store().with_suffix(".html"))
    echo(f"\nThe same as pictures, with more:\n  {page}\n\n{try_next(chosen_store())}")


@main.command("sql")
@click.argument("query", type=query_text)
@rows_options
def run_sql(query: str, format_: Format | None, output: Path | None) -> None:
    """Run one SQL QUERY over the store.

    It can read files that it names too, and change nothing. '-' reads the query from standard input.
    """
    print_rows(open_database().sql(query), format_, output)


@main.command()
def shell() -> None:
    """Ask SQL at a prompt with history and completion."""
    from .queries.shell import run_shell

    run_shell(open_database())


@main.command()
@click.argument("name", required=False)
@click.option("--files", is_flag=True, help="List the committed files of the table NAME, for programs that read them.")
@rows_options
def tables(name: str | None, files: bool, format_: Format | None, output: Path | None) -> None:
    """List the tables, or the columns or files of the table NAME."""
    database = open_database()
    if files:
        if name is None:
            raise click.UsageError("--files lists the files of one table; it takes a NAME")
        paths = [database.store.address(file) for file in database.committed[name]]
        print_rows(database.sql("select unnest(?::varchar[]) as path", [paths]), format_, output)
        return
    print_rows(database.describe_columns(name) if name else database.describe_tables(), format_, output)


@main.command()
@click.argument("name", required=False)
@click.option("--sql", "as_sql", is_flag=True, help="Print a script that makes the same views in any DuckDB client.")
@rows_options
def views(name: str | None, as_sql: bool, format_: Format | None, output: Path | None) -> None:
    """List the views, or the columns of the view NAME."""
    if as_sql:
        if name or format_ or output:
            raise click.UsageError("--sql prints the script of all views; it takes no NAME, --format or -o")
        echo(open_database().script())
        return
    database = open_database()
    print_rows(database.describe_columns(name) if name else database.describe_views(), format_, output)


@main.command()
@click.argument("names", nargs=-1, metavar="[VIEW]...")
def materialize(names: tuple[str, ...]) -> None:
    """Keep the rows of views as Parquet, so that asking is quick.

    By default specialization. What is kept is used until the store changes, and may be deleted at any time. First each
    neuron's best functions and each function's top neurons are added to runs that were measured without them, for good.
    """
    from .ingest.jobs.additions.best import add_best
    from .progress import show_progress
    from .queries.materialize import materialize as keep

    store, database = chosen_store(), open_database()
    with show_progress() as progress:
        added = add_best(store, progress=progress)
    for run_id in added:
        echo(f"run {run_id}: best functions and top neurons added")
    database.refresh()
    for kept in keep(database, names or ("specialization",)):
        status = "kept" if kept.is_new else "is current"
        of_run = f" of run {kept.run_id}" if kept.run_id else ""
        path = kept.path.relative_to(store.absolute())
        echo(f"{kept.view}{of_run} {status}: {path}, {kept.size_bytes:,} bytes")


@main.command()
@click.option("--repair", is_flag=True, help="First remove what killed jobs left and nobody can use; renew the card.")
def check(repair: bool) -> None:
    """Check commits, committed files to their last row, kept views and the card.

    Every file is held against its recorded size and digest, and its rows against the declared table: columns, types,
    NULL and NaN, keys that are there twice. What killed jobs have left is named.
    """
    from .queries.check import check_store

    report = check_store(chosen_store(), repair=repair)
    for done in report.repaired:
        echo(printable(f"{done.path}: {done.what}"), err=True)
    for problem in report.problems:
        echo(printable(f"{problem.path}: {problem.what}"))
    for name, state in report.unfinished.items():
        echo(printable(f".staging/{name}: {_STATES[state]}"), err=True)
    echo(f"{report.n_files:,} committed files, {len(report.problems):,} problems", err=True)
    if report.problems:
        raise click.exceptions.Exit(1)


_STATES = {
    "running": "a job is running",
    "unfinished": "a job was stopped; the same command goes on from what it has done (delete the folder to give it up)",
    "garbage": "left by a job that was killed; the next job, or 'check --repair', removes it",
}


for _command in (corpus, ingest, partition, align, describe, perturb, emergence, report, share, runs, remove):
    main.add_command(_command)
