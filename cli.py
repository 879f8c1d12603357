"""The command line: each command parses, calls one function, prints.

Results go to standard output, progress and notes to standard error. Exit status 0, 1 with one line for an
expected failure, 2 for wrong usage. Commands import what they need, so that ``--help`` and ``sql`` are quick.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .commands.corpus import corpus
from .commands.emergence import emergence
from .commands.experts import align, describe, partition
from .commands.ingest import ingest
from .commands.options import (
    Group,
    chosen_store,
    echo,
    open_database,
    print_rows,
    query_text,
    rows_options,
    store_option,
)
from .commands.perturb import perturb
from .commands.share import share
from .errors import printable

if TYPE_CHECKING:
    from .queries.output import Format

__all__ = ["main"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="neuronlake")
@store_option
def main() -> None:
    """Ask what the neurons of transformers respond to: measure models, query with SQL."""


@main.command()
@store_option
def demo() -> None:
    """Measure a small pretrained model and print findings.

    Three families of functions, on the pretrained weights and on a random initialisation of the same architecture.
    """
    from .demo.findings import find
    from .demo.printing import print_findings
    from .demo.run import run_demo
    from .ingest.progress import show_progress

    with show_progress() as progress:
        run = run_demo(chosen_store(), progress)
    print_findings(run, find(open_database(), run), store=chosen_store())


@main.command("sql")
@click.argument("query")
@rows_options
@store_option
def run_sql(query: str, format_: "Format | None", output: Path | None) -> None:
    """Run one SQL QUERY over the store.

    It can read files that it names too, and change nothing. '-' reads the query from standard input.
    """
    print_rows(open_database().sql(query_text(query)), format_, output)


@main.command()
@store_option
def shell() -> None:
    """Ask SQL at a prompt with history and completion."""
    from .queries.shell import run_shell

    run_shell(open_database())


@main.command()
@click.argument("name", required=False)
@rows_options
@store_option
def tables(name: str | None, format_: "Format | None", output: Path | None) -> None:
    """List the tables, or the columns of the table NAME."""
    database = open_database()
    print_rows(database.describe_columns(name) if name else database.describe_tables(), format_, output)


@main.command()
@click.argument("name", required=False)
@click.option("--sql", "as_sql", is_flag=True, help="Print a script that makes the same views in any DuckDB client.")
@rows_options
@store_option
def views(name: str | None, as_sql: bool, format_: "Format | None", output: Path | None) -> None:
    """List the views, or the columns of the view NAME."""
    if as_sql:
        from .queries.script import views_sql
        from .schema.store import Store

        if name or format_ or output:
            raise click.UsageError("--sql prints the script of all views; it takes no NAME, --format or -o")
        echo(views_sql(Store(chosen_store())))
        return
    database = open_database()
    print_rows(database.describe_columns(name) if name else database.describe_views(), format_, output)


@main.command()
@click.argument("names", nargs=-1, metavar="[VIEW]...")
@store_option
def materialize(names: tuple[str, ...]) -> None:
    """Keep the rows of views as Parquet, so that asking is quick.

    By default specialization. What is kept is used until the store changes, and may be deleted at any time.
    """
    from .queries.materialize import materialize as keep

    for each in keep(open_database(), names or ("specialization",)):
        status = "kept" if each.is_new else "is current"
        echo(f"{each.view} {status}: {each.path.relative_to(chosen_store().absolute())}, {each.size_bytes:,} bytes")


@main.command()
@store_option
def check() -> None:
    """Check every committed file against its recorded size and digest."""
    from .schema.store import Store

    store = Store(chosen_store())
    store.require()
    problems = store.check()
    for problem in problems:
        echo(printable(f"{problem.path}: {problem.what}"))
    n_files = sum(len(commit.files) for commit in store.commits())
    echo(f"{n_files} committed files, {len(problems)} problems", err=True)
    if problems:
        raise click.exceptions.Exit(1)


for _command in (corpus, ingest, partition, align, describe, perturb, emergence, share):
    main.add_command(_command)
