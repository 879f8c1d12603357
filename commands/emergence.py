"""``neuronlake emergence``: when experts and neurons settle."""

import shlex
from typing import Any

import click

from ..schema.vocabulary import EmergenceMethod, Ranking, WeightKind
from . import stored
from .groups import AdvancedCommand
from .options import POSITIVE, SEED_RANGE, choice_of, engine_options, parse_layers, taken, taken_engine
from .printing import chosen_store, echo, open_database, standard_output, suggest


@click.command(cls=AdvancedCommand)
@click.argument("model", type=stored.MODEL_OR_PATH)
@click.option(
    "--method", type=choice_of(EmergenceMethod), default="kmeans", help="How neurons are grouped into experts."
)
@click.option("--experts", "n_experts", type=POSITIVE, help="Experts in each layer; not for native.")
@click.option("--corpus", type=stored.CORPUS, help="Corpus of the series.  [default: the only one]")
@click.option("--run", type=stored.RUN, help="Any run of the series, by its first digits.  [default: the only series]")
@click.option("--name", help="Name the model is stored under.  [default: MODEL, of a path the last part]")
@click.option("--layers", type=parse_layers, metavar="LAYERS", help="Layers to partition, such as 0,3-5.")
@click.option("--features", type=choice_of(WeightKind), default="input", help="Weights that kmeans clusters.")
@click.option(
    "--seeds", "n_seeds", type=click.IntRange(min=2), default=2,
    help="Number of seeds from which experts are made at each checkpoint.",
)  # fmt: skip
@click.option(
    "--random", "n_random", type=click.IntRange(min=0), default=5,
    help="Number of random partitions, and of partitions matched in norm and firing rate.",
)  # fmt: skip
@click.option("--seed", type=SEED_RANGE, default=0, help="First seed.")
@click.option(
    "--starts", "n_starts", type=POSITIVE, default=4,
    help="Starts of each partition, of which the best is kept; a warm start is one.",
)  # fmt: skip
@click.option(
    "--threshold", "thresholds", type=click.Choice(["0.5", "0.6", "0.7", "0.8", "0.9", "0.95"]), multiple=True,
    default=["0.5", "0.7", "0.9"], help="Correlation from which on scores count as settled; repeatable.",
)  # fmt: skip
@click.option(
    "--ranking", type=choice_of(Ranking), default="lift",
    help="What chooses the top neurons that experts are tested for: lift, or predictivity as in Zhang et al. 2023.",
)  # fmt: skip
@engine_options
def emergence(model: str, thresholds: tuple[str, ...], ranking: Ranking, **options: Any) -> None:  # noqa: ANN401
    """Study when experts and neurons of MODEL settle over its checkpoints.

    The store must hold the checkpoints (ingest --revisions). Neurons are grouped into experts at every checkpoint, from
    several seeds and from the experts of the checkpoint before; random groups and groups matched in input norm and
    firing rate are the controls. kmeans loads each checkpoint again from MODEL; all else comes from the store.
    """
    from ..analysis.emergence.settings import EmergenceSettings
    from ..analysis.emergence.study import study_emergence
    from ..analysis.emergence.summary import summarise
    from ..analysis.sections import write_sections
    from ..progress import show_progress

    settings = taken(EmergenceSettings, options)
    options["engine"] = taken_engine(options)
    with show_progress("the partitions that are made are kept; the same command goes on") as progress:
        report = study_emergence(model, store=chosen_store(), settings=settings, progress=progress, **options)
    echo(report.describe() + "\n")
    with open_database() as database, standard_output() as stream:
        sections = summarise(database, report, thresholds=list(map(float, thresholds)), ranking=ranking)
        write_sections(database, sections, stream)
    suggest(f"report --model {shlex.quote(report.model)}")
