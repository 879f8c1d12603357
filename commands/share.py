"""Results that travel: ``neuronlake share``."""

from pathlib import Path
from typing import Any

import click

from ..progress import show_progress
from . import stored
from .groups import Command, StoreGroup
from .options import parse_layers
from .printing import chosen_store, echo, named_stores, suggest

_KEPT = "what has arrived is kept; the same command goes on"


@click.group(cls=StoreGroup)
def share() -> None:
    """Exchange results."""


@share.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--model", required=True, help="Name to store the model under.")
@click.option("--score", required=True, metavar="COLUMN", help="Column of the score.")
@click.option("--revision", default="main")
@click.option("--step", type=click.IntRange(0, 2**63 - 1), help="Training step of the revision.")
@click.option("--stack", type=click.Choice(["encoder", "decoder"]), help="[default: the column stack]")
@click.option("--family", help="Function family.  [default: the column family]")
@click.option("--function", help="Function.  [default: the column function]")
@click.option("--partition", metavar="COLUMN", help="Column of each neuron's expert.")
def share_import(file: str, **options: Any) -> None:  # noqa: ANN401
    """Add the scores of neurons that others published.

    FILE is Parquet or CSV with a row a neuron: layer, neuron, a score, and the neuron's expert if it has one.
    """
    from .. import import_scores

    echo(import_scores(file, store=chosen_store(), **options).describe())
    suggest("status")


@share.command("pack")
@click.argument("path", type=click.Path(path_type=Path), metavar="FOLDER|FILE.zip")
@click.option("--model", type=stored.MODEL, help="Take the runs of this model.  [default: all]")
@click.option("--revision", help="Take the runs of this revision.  [default: all]")
@click.option("--corpus", type=stored.CORPUS, help="Take the runs on this corpus.  [default: all]")
@click.option("--where", metavar="SQL", help="Take the runs that fit a condition, such as 'step >= 1000'.")
@click.option("--without-texts", is_flag=True, help="Leave out the columns that hold texts of corpora.")
def share_pack(path: Path, without_texts: bool, **options: Any) -> None:  # noqa: ANN401
    """Copy the store, or some runs with all that belongs to them, to publish.

    A FOLDER is a dataset repository of the Hugging Face Hub, with a card and a Croissant description, and a store:
    '--store FOLDER' asks it, and so does '--store URL' wherever its files are served. FILE.zip is the same in one file,
    which '--store FILE.zip' reads as it is and 'share pull FILE.zip' unpacks.
    """
    from .. import pack_store

    echo(pack_store(named_stores(), path, with_texts=not without_texts, **options).describe())
    suggest("share verify", path)


@share.command("verify")
@click.option("--recompute", metavar="LAYERS", help="Also measure layers again, such as 0,3-5 or all.")
@click.option("--run", type=stored.RUN, help="Run to measure again, or its first digits.  [default: all]")
@click.option("--model", help="Hub id or folder of the weights.  [default: the name in the run]")
@click.option("--tokenizer", help="Hub id or folder of the tokenizer, where it was not the checkpoint's own.")
@click.option(
    "--corpora", type=click.Path(exists=True, path_type=Path), help="A store with the texts, if this has none."
)
@click.option("--device", help="auto, cpu, cuda, cuda:1, mps, split (all GPUs).  [default: auto]")
def share_verify(recompute: str | None, **options: Any) -> None:  # noqa: ANN401
    """Verify that the store is whole, agrees with itself and, if asked, is what its models give.

    Digests, types, keys, rows that refer to others, best functions and top neurons. With --recompute every score of
    some layers is measured again, and compared within what rounding allows.
    """
    from .. import verify_store

    options = {name: value for name, value in options.items() if value is not None}
    if recompute is None and options:
        raise click.UsageError(f"--{next(iter(options))} is of what --recompute measures again")
    verdict = verify_store(named_stores())
    problems = verdict.problems
    if recompute is not None and not problems:
        from .. import recompute as measure_again

        layers = None if recompute == "all" else parse_layers(recompute)
        with show_progress() as progress:
            problems = measure_again(named_stores(), layers=layers, progress=progress, **options)
    for problem in problems:
        echo(f"{problem.path}: {problem.what}")
    echo(verdict.describe() if not problems else f"{verdict.n_files:,} files, {len(problems):,} problems")
    if problems:
        raise click.exceptions.Exit(1)


@share.command("push")
@click.argument("url")
def share_push(url: str) -> None:
    """Add what is missing at a URL: s3://BUCKET/…, or a Hub dataset hf://datasets/OWNER/NAME that exists.

    Nothing that is there is replaced; the same command goes on where it was stopped.
    """
    from .. import push_store

    with show_progress(_KEPT) as progress:
        report = push_store(chosen_store(), url, progress=progress)
    echo(report.describe())


@share.command("pull")
@click.argument("url", metavar="URL|FILE.zip")
def share_pull(url: str) -> None:
    """Add what the store lacks of another: http(s)://, s3://, hf://datasets/OWNER/NAME, or a pack in one file."""
    from .. import pull_store

    with show_progress(_KEPT) as progress:
        report = pull_store(url, chosen_store(), progress=progress)
    echo(report.describe())
    suggest("status")


@share.command("merge", cls=Command)
@click.argument("stores", nargs=-1, required=True, metavar="STORE...")
@click.option("--into", required=True, metavar="DIR", type=click.Path(file_okay=False), help="Store of all of them.")
def share_merge(stores: tuple[str, ...], into: str) -> None:
    """Merge stores, job by job: folders, packs in one file, URLs.

    A job that several hold is kept once: the same run of two laboratories may differ in times, devices and rounding.
    Where they contradict each other, nothing is merged. If DIR is a store already, it keeps what it has.
    """
    from .. import merge_stores

    if click.get_current_context().find_root().obj is not None:
        raise click.UsageError("merge takes its stores as arguments, and --into: no --store")
    echo(merge_stores(stores, into=into).describe())
    suggest("status", into)
