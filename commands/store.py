"""What a store holds, and what goes from it: ``neuronlake runs``, ``jobs`` and ``remove``."""

from pathlib import Path

import click

from ..schema.vocabulary import Format
from .groups import StoreCommand
from .options import rows_options
from .printing import chosen_store, echo, print_rows


@click.command(cls=StoreCommand)
@rows_options
def runs(format_: Format | None, output: Path | None) -> None:
    """List runs: settings, dates, sizes, what depends on each.

    Sizes are with what was added to a run: best functions, control functions, coactivations.
    """
    from ..sharing.inventory import list_runs

    print_rows(list_runs(chosen_store()), format_, output)


@click.command(cls=StoreCommand)
@rows_options
def jobs(format_: Format | None, output: Path | None) -> None:
    """List all jobs, corpora and partitions among them.

    With the date and the size of each, the jobs that it depends on, and those that depend on it.
    """
    from ..sharing.inventory import list_jobs

    print_rows(list_jobs(chosen_store()), format_, output)


@click.command(cls=StoreCommand)
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
@click.option("--with-dependents", is_flag=True, help="Remove the jobs that depend on them too.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def remove(names: tuple[str, ...], with_dependents: bool, dry_run: bool) -> None:
    """Remove runs, partitions, studies or corpora.

    A JOB is an id or its first digits, or a corpus. It stays if another job depends on it, unless that goes too; best
    functions, control functions and coactivations go with their run.
    """
    from ..sharing.removal import remove_jobs

    echo(remove_jobs(chosen_store(), names, with_dependents=with_dependents, dry_run=dry_run).describe())
