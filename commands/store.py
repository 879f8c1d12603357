"""What a store holds and lacks, and what goes from it: ``neuronlake status``, ``runs`` and ``remove``."""

from pathlib import Path

import click

from ..schema.vocabulary import Format
from . import stored
from .groups import StoreCommand
from .options import rows_options
from .printing import chosen_store, echo, named_stores, print_rows, typed


@click.command(cls=StoreCommand)
@rows_options
def status(format_: Format | None, output: Path | None) -> None:
    """Say what the store holds and lacks, and what to run next.

    The commands name a model as the store does: of one that was measured from a folder, give the folder, and --name.
    """
    from ..queries.status import store_status

    found = store_status(named_stores())
    if format_ is not None or output is not None:
        print_rows(found, format_, output)
        return
    for row in found:
        if row["part"] == "holds":
            echo(f"{row['n']:>6,}  {row['what']}: {row['names']}")
    for row in found:
        if row["part"] == "lacks":
            echo(f"\n# {row['what']}: {row['names'] or row['n']}")
            if row["command"]:
                echo(typed(str(row["command"]).removeprefix("neuronlake ")))


@click.command(cls=StoreCommand)
@click.option("--all", "with_others", is_flag=True, help="List all jobs: corpora, partitions and studies too.")
@rows_options
def runs(with_others: bool, format_: Format | None, output: Path | None) -> None:
    """List runs: settings, dates, sizes, what depends on each.

    Sizes are with what was added to a run, such as control functions and highlights. With --all every job is listed
    by itself, with the jobs that it depends on and those that depend on it.
    """
    from ..sharing.inventory import list_jobs, list_runs

    print_rows((list_jobs if with_others else list_runs)(named_stores()), format_, output)


@click.command(cls=StoreCommand)
@click.argument("names", nargs=-1, required=True, type=stored.JOB, metavar="JOB...")
@click.option("--with-dependents", is_flag=True, help="Remove the jobs that depend on them too.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def remove(names: tuple[str, ...], with_dependents: bool, dry_run: bool) -> None:
    """Remove runs, partitions, studies or corpora.

    A JOB is an id or its first digits, or a corpus. It stays if another job depends on it, unless that goes too; what
    was added to a run goes with it.
    """
    from ..sharing.removal import remove_jobs

    echo(remove_jobs(chosen_store(), names, with_dependents=with_dependents, dry_run=dry_run).describe())
