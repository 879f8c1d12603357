"""The command line: each command parses, calls one function, prints.

Results go to standard output, progress and notes to standard error. Exit status 0, 1 with one line for an
expected failure, 2 for wrong usage. Commands import what they need, so that ``--help`` and ``sql`` are quick.
"""

from pathlib import Path
from typing import Any

import click

from .commands import stored
from .commands.corpus import corpus
from .commands.experts import align, describe, emergence, partition
from .commands.groups import Group
from .commands.ingest import ingest
from .commands.options import engine_options, query_text, rows_options, taken_engine
from .commands.perturb import perturb
from .commands.printing import chosen_store, echo, note, open_database, print_rows, standard_output, typed
from .commands.share import share
from .commands.store import remove, report, runs, status
from .errors import check_known, printable
from .progress import show_progress
from .schema.vocabulary import Format

_SECTIONS = {
    "Measure": ("corpus", "ingest", "demo"),
    "Ask": ("sql", "shell", "tables", "describe", "report"),
    "Analyse": ("partition", "align", "perturb", "emergence"),
    "Share": ("share",),
    "Store": ("status", "runs", "remove", "check", "materialize"),
}


@click.group(
    cls=Group,
    sections=_SECTIONS,
    epilog="\b\nA shell completes names of runs, models, corpora and more after\n"
    '  eval "$(_NEURONLAKE_COMPLETE=bash_source neuronlake)"\nor with zsh_source or fish_source in its place.',
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
    from .demo.run import findings, run_demo
    from .report.page import write_report

    with show_progress() as progress:
        run = run_demo(chosen_store(), progress)
    with open_database() as database, standard_output() as stream:
        write_sections(database, findings(database, run), stream)
        store = chosen_store()
        named = store if store.name not in ("", "..") else store.resolve()  # . has no name of its own
        page = write_report(database, named.with_name(f"{named.name}.html"))
    echo(f"\nThe same as pictures, with more:\n  {page}\n\n{try_next(chosen_store())}")


def try_next(store: Path) -> str:
    """Return commands to go on with after the demo, as the person must type them."""
    lift = "specialization where revision = 'main' and family = 'knowledge' order by lift desc, layer, neuron limit 5"
    best = "from best_predictivity where revision = 'main' order by all"
    commands = (
        f'sql "select layer, neuron, function, lift, held_out_function, held_out_lift from {lift}"',
        f'sql "select family, layer, held_out_predictivity {best}"',
        "shell",
    )
    return "\n  ".join(["Try next", *(typed(command, [store]) for command in commands)])


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
@click.argument("name", required=False, type=stored.TABLE)
@click.option("--views", is_flag=True, help="List the views: questions that have an answer ready.")
@click.option("--files", is_flag=True, help="List the committed files of the table NAME, for programs that read them.")
@click.option("--sql", "as_sql", is_flag=True, help="Print a script that makes the same views in any DuckDB client.")
@rows_options
def tables(name: str | None, views: bool, files: bool, as_sql: bool, **written: Any) -> None:  # noqa: ANN401
    """List the tables or the views, or the columns of the table or view NAME."""
    if as_sql:
        if name or files or any(written.values()):
            raise click.UsageError("--sql prints the script of all views; it takes no NAME, --files, --format or -o")
        echo(open_database().script())
        return
    if files and (views or name is None):
        raise click.UsageError("--files lists the files of one table; it takes a NAME, and no --views")
    database = open_database()
    if files and name:
        check_known("table", [name], database.committed)
        paths = [database.store.address(file) for file in database.committed[name]]
        rows = database.sql("select unnest(?::varchar[]) as path", [paths])
    elif name:
        rows = database.describe_columns(name)
    else:
        rows = database.describe_views() if views else database.describe_tables()
    print_rows(rows, **written)


@main.command()
@click.argument("names", nargs=-1, type=stored.VIEW, metavar="[VIEW]...")
@engine_options
def materialize(names: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Keep the rows of views as Parquet, so that asking is quick.

    By default specialization. What is kept is used until the store changes, and may be deleted at any time. First each
    neuron's best functions and each function's top neurons are added to runs that were measured without them, for good.
    """
    from .ingest.jobs.additions.best import add_best
    from .queries.cache import materialize as keep

    store, database, engine = chosen_store(), open_database(), taken_engine(options)
    with show_progress("what was added to runs is kept; the same command goes on") as progress:
        added = add_best(store, progress=progress)
    for run_id in added:
        echo(f"run {run_id}: best functions and top neurons added")
    database.refresh()
    for kept in keep(database, names or ("specialization",), engine=engine, progress=show_progress):
        status = "kept" if kept.is_new else "is current"
        of_run = f" of run {kept.run_id}" if kept.run_id else ""
        echo(f"{kept.view}{of_run} {status}: {kept.path.relative_to(store.absolute())}, {kept.size_bytes:,} bytes")


@main.command()
@click.option("--repair", is_flag=True, help="First remove what killed jobs left and nobody can use; renew the card.")
def check(repair: bool) -> None:
    """Check commits, committed files to their last row, kept views and the card.

    Every file is held against its recorded size and digest, and its rows against the declared table: columns, types,
    NULL and NaN, keys that are there twice. What killed jobs have left is named.
    """
    from .queries.status import STATES, check_store

    report = check_store(chosen_store(), repair=repair)
    for done in report.repaired:
        note(printable(f"{done.path}: {done.what}"))
    for problem in report.problems:
        echo(printable(f"{problem.path}: {problem.what}"))
    for name, state in report.unfinished.items():
        note(printable(f".staging/{name}: {STATES[state]}"))
    note(f"{report.n_files:,} committed files, {len(report.problems):,} problems")
    if report.problems:
        raise click.exceptions.Exit(1)


for _command in (corpus, ingest, partition, align, describe, perturb, emergence, report, share, status, runs, remove):
    main.add_command(_command)
