"""Results that travel: ``neuronlake share``."""

from typing import Any

import click

from .groups import StoreGroup
from .printing import chosen_store, echo


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
    from ..analysis.published import import_scores

    echo(import_scores(file, store=chosen_store(), **options).describe())
