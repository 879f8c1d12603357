"""Neurons into experts, and what experts do: ``neuronlake partition``, ``align``, ``describe`` and ``emergence``."""

import shlex
from typing import Any

import click

from ..progress import show_progress
from ..schema.vocabulary import EmergenceMethod, Half, Method, Ranking, WeightKind
from . import stored
from .groups import AdvancedCommand, StoreGroup
from .options import POSITIVE, SEED_RANGE, choice_of, engine_options, parse_layers, query_text, taken, taken_engine
from .printing import chosen_store, echo, echo_card, open_database, standard_output, suggest

_STACK = click.option("--stack", type=click.Choice(["encoder", "decoder"]), help="[default: encoder if there is one]")
_RUN = click.option("--run", type=stored.RUN, help="Run to use, by its first digits.  [default: the only one]")
_LAYER = click.option("--layer", type=click.IntRange(min=0), required=True)


@click.command(cls=AdvancedCommand)
@click.argument("model", type=stored.MODEL_OR_PATH)
@click.option("--method", type=choice_of(Method), default="kmeans")
@click.option("--experts", "n_experts", type=POSITIVE, help="Experts in each layer; not for native.")
@click.option("--revision", help="Branch, tag, commit or subfolder; of a stored model its revision.  [default: main]")
@click.option("--random-init", type=SEED_RANGE, help="kmeans: seed of a random initialisation to cluster instead.")
@click.option("--name", help="Name the model is stored under.  [default: MODEL, of a path the last part]")
@click.option("--layers", type=parse_layers, metavar="LAYERS", help="Layers to partition, such as 0,3-5.")
@click.option("--features", type=choice_of(WeightKind), default="input", help="kmeans: weights to cluster.")
@click.option("--normalize/--no-normalize", default=True, help="kmeans, function: scale rows to unit length first.")
@click.option(
    "--query", type=query_text, metavar="TEXT",
    help="kmeans: SQL whose rows are clustered: stack, layer, neuron, numbers; '-' for standard input.",
)  # fmt: skip
@click.option("--half", type=choice_of(Half), default="all", help="function: instances whose scores are clustered.")
@click.option("--matched", type=stored.PARTITION, help="random: permute its experts in bins of norm and firing rate.")
@click.option("--warm-start", type=stored.PARTITION, help="kmeans, function: start from the experts of PARTITION.")
@click.option("--activity", help="coactivation: counts to use, if the run has several.")
@_RUN
@click.option("--seed", type=SEED_RANGE, default=0)
@click.option(
    "--starts", "n_starts", type=POSITIVE, default=4,
    help="kmeans, function, coactivation: starts, of which the best is kept; a warm start is one.",
)  # fmt: skip
def partition(model: str, **options: Any) -> None:  # noqa: ANN401
    """Group the neurons of MODEL into experts and store them.

    kmeans loads MODEL and clusters its weights into experts of equal sizes, as MoEfication does; with --query, the
    rows of a query. All other methods read the store: coactivation the counts of ingest --coactivation, function the
    scores, native the model's own experts. random is the control.
    """
    from .. import PartitionSettings, partition_model

    settings = taken(PartitionSettings, options)
    with show_progress("the store is as it was") as progress:
        report = partition_model(model, store=chosen_store(), settings=settings, progress=progress, **options)
    echo(report.describe())
    if report.method not in ("random", "matched"):  # which others are compared with
        suggest(f"align {report.partition_id}")


@click.command(cls=AdvancedCommand)
@click.argument("partition_id", type=stored.PARTITION, metavar="PARTITION")
@click.option("--run", type=stored.RUN, help="Run to test on.  [default: all of the partition's model and revision]")
@click.option("--permutations", "n_permutations", type=POSITIVE, default=100_000,
              help="Permutations of families whose lists overlap: no p of theirs is below 1 / (1 + this).")  # fmt: skip
@click.option(
    "--bins", "n_bins", type=POSITIVE, default=5, help="Bins of norm, and of firing rate, that neurons are matched on."
)
@click.option("--seed", type=SEED_RANGE, default=0)
@click.option("--ranking", type=choice_of(Ranking), default="lift",
              help="What chooses a function's top neurons: lift, or predictivity as in Zhang et al. 2023.")  # fmt: skip
def align(partition_id: str, **options: Any) -> None:  # noqa: ANN401
    """Test which experts of PARTITION are functional, against several nulls.

    The nulls permute experts among all neurons of a layer, and among neurons of similar norm and firing rate; after
    ingest --controls, they are also the control functions, whose labels were permuted. Single functions are tested
    exactly, families by permutation, on all instances and on each half. The tests go to the table alignments; the
    views alignment_tests and held_out_experts read it.
    """
    from .. import align_partition

    with show_progress("the tests of runs that are done are kept; the same command goes on") as progress:
        reports = align_partition(partition_id, store=chosen_store(), progress=progress, **options)
    for report in reports:
        echo(report.describe())
    suggest(f"sql \"from held_out_experts where partition_id = '{reports[0].partition_id}' order by all\"")


@click.group(cls=StoreGroup)
def describe() -> None:
    """Print a readable card of an expert, a neuron or a word."""


@describe.command("expert")
@click.argument("partition_id", type=stored.PARTITION, metavar="PARTITION")
@_LAYER
@click.option("--expert", type=click.IntRange(min=0), required=True)
@_STACK
@_RUN
def describe_expert_command(partition_id: str, **options: Any) -> None:  # noqa: ANN401
    """What an expert of PARTITION is functional for, its neurons and their texts."""
    from .. import describe_expert

    echo(describe_expert(open_database(), partition_id, **options))


@describe.command("word")
@click.argument("word")
@click.option("--run", type=stored.RUN, help="Run to ask, by its first digits.  [default: all]")
def describe_word_command(word: str, run: str | None) -> None:
    """Which neurons write WORD, read it, fire on it, or are specialised in functions of that name."""
    from .. import describe_word

    echo_card(describe_word(open_database(), word, run=run))


@describe.command("neuron")
@click.argument("model", type=stored.MODEL)
@_LAYER
@click.option("--neuron", type=click.IntRange(min=0), required=True)
@_STACK
@click.option("--revision", help="Revision as stored.  [default: main; with --run that run's]")
@_RUN
def describe_neuron_command(model: str, **options: Any) -> None:  # noqa: ANN401
    """What a neuron of MODEL detects, the texts that activate it, what it writes and reads, and its experts.

    In a text « and » mark the token on which it fires most, [ and ] the span that is labelled.
    """
    from .. import describe_neuron

    echo_card(describe_neuron(open_database(), model, **options))


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
@click.option("--seeds", "n_seeds", type=click.IntRange(min=2), default=2,
              help="Number of seeds from which experts are made at each checkpoint.")  # fmt: skip
@click.option("--random", "n_random", type=click.IntRange(min=0), default=5,
              help="Number of random partitions, and of partitions matched in norm and firing rate.")  # fmt: skip
@click.option("--seed", type=SEED_RANGE, default=0, help="First seed.")
@click.option("--starts", "n_starts", type=POSITIVE, default=4,
              help="Starts of each partition, of which the best is kept; a warm start is one.")  # fmt: skip
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
    from .. import EmergenceSettings, study_emergence
    from ..analysis.emergence.summary import summarise
    from ..analysis.sections import write_sections

    settings = taken(EmergenceSettings, options)
    options["engine"] = taken_engine(options)
    with show_progress("the partitions that are made are kept; the same command goes on") as progress:
        report = study_emergence(model, store=chosen_store(), settings=settings, progress=progress, **options)
    echo(report.describe() + "\n")
    with open_database() as database, standard_output() as stream:
        sections = summarise(database, report, thresholds=list(map(float, thresholds)), ranking=ranking)
        write_sections(database, sections, stream)
    suggest(f"report --model {shlex.quote(report.model)}")
