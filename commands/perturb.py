"""``neuronlake perturb``: ablate the neurons of functions and measure what it does to every function."""

from typing import Any

import click

from ..progress import show_progress
from ..schema.vocabulary import Control, PerturbationKind, Ranking, ReadoutKind
from . import stored
from .groups import AdvancedCommand
from .options import POSITIVE, SEED_RANGE, choice_of, engine_options, parse_layers, query_text, taken, taken_engine
from .printing import chosen_store, echo, open_database, print_rows, suggest


@click.command(cls=AdvancedCommand)
@click.argument("model", type=stored.MODEL_OR_PATH)
@click.option("--functional", "partition", type=stored.PARTITION, help="Ablate each function's experts of PARTITION.")
@click.option("--top", "is_top", is_flag=True, help="Ablate each function's top neurons.")
@click.option(
    "--ranking", type=choice_of(Ranking), default="lift",
    help="What orders top neurons and those of experts: lift, or predictivity as in Zhang et al. 2023.",
)  # fmt: skip
@click.option(
    "--query", type=query_text, metavar="TEXT",
    help="Ablate the neurons that SQL returns: stack, layer, neuron, in order; with family and function, several "
    "sources. '-' reads it.",
)  # fmt: skip
@click.option("--family", "families", type=stored.FAMILY, multiple=True,
              help="Source: the functions of this family.  [repeatable]")  # fmt: skip
@click.option(
    "--function", "functions", type=stored.FUNCTION, multiple=True, help="Source: this family/function.  [repeatable]"
)
@click.option("--kind", type=choice_of(PerturbationKind), default="zero", help="Kind of ablation.")
@click.option(
    "--scale", type=click.FloatRange(min=0), help="Factor of shuffle and noise.  [default: 4 of shuffle, else 1]"
)
@click.option(
    "--dose", "doses", type=click.FloatRange(0, 1, min_open=True), multiple=True,
    help="Share of the layers' neurons.  [repeatable; default: 0.02 0.06 0.125; of --query all rows]",
)  # fmt: skip
@click.option("--layers", type=parse_layers, metavar="LAYERS", help="Layers to ablate, such as 8-11.  [default: all]")
@click.option("--control", "controls", type=choice_of(Control), multiple=True,
              help="Control to compare with.  [repeatable; default: all that are possible]")  # fmt: skip
@click.option("--energy-ratio", type=click.FloatRange(min=1), default=1.25,
              help="Compare matched sets whose energy differs from the source's by this factor at most.")  # fmt: skip
@click.option("--seeds", "n_seeds", type=click.IntRange(min=2), default=5, help="Of each control.")
@click.option("--seed", type=SEED_RANGE, default=0, help="First seed.")
@click.option("--readout", type=choice_of(ReadoutKind), default="probe",
              help="Linear probe of final states, language-model loss, or accuracy of label words.")  # fmt: skip
@click.option("--corpus", type=stored.CORPUS, help="Corpus to read out.  [default: the run's]")
@click.option("--texts", "n_texts", type=POSITIVE, default=1000, help="Most texts to read out, and to fit on.")
@click.option("--run", type=stored.RUN, help="Run whose scores select neurons.  [default: the only one]")
@click.option("--revision", help="Branch, tag, commit or subfolder.")
@click.option("--random-init", type=SEED_RANGE, help="Seed of a random initialisation to ablate.")
@click.option("--name", help="Name the model is stored under.  [default: MODEL, of a path the last part]")
@click.option("--tokenizer", help="Hub id or folder of another tokenizer.  [default: the checkpoint's own]")
@click.option("--max-tokens", type=click.IntRange(min=3), help="Cut longer texts.  [default: as the run]")
@click.option("--batch-tokens", type=POSITIVE, default=4096)
@click.option("--bootstrap", "n_bootstrap", type=POSITIVE, default=1000)
@click.option("--permutations", "n_permutations", type=POSITIVE, default=9999)
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps.")
@engine_options
@click.option("--dry-run", is_flag=True, help="Say what would be done and how long it would take; write nothing.")
def perturb(model: str, dry_run: bool, **options: Any) -> None:  # noqa: ANN401
    """Ablate neurons of MODEL and measure the effect on every function.

    Ablated are the experts of each function (--functional), its top neurons (--top), or the neurons that SQL returns
    (--query). For comparison, as many control neurons are ablated: drawn at random, or matched in layer and energy.
    View perturbation_effects holds the results.
    """
    from .. import PerturbationSettings, study_perturbation

    settings, engine = taken(PerturbationSettings, options), taken_engine(options)
    options |= {"settings": settings, "engine": engine, "store": chosen_store()}
    with show_progress(has_bar=not dry_run) as progress:
        report = study_perturbation(model, dry_run=dry_run, progress=progress, **options)
    echo(report.describe())
    if not dry_run:
        print_rows(open_database().ask("perturbation_summary", study=report.perturbation_id), None, None)
        suggest(f"sql \"from perturbation_effects where perturbation_id = '{report.perturbation_id}'\"")
