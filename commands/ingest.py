"""Activations to Parquet: ``neuronlake ingest``."""

from pathlib import Path
from typing import Any, get_args

import click

from ..progress import show_progress
from ..schema.vocabulary import Addition, ControlTask, DType, Halves, Pooling, Router, Site, SpecialTokens, Storage
from . import stored
from .groups import AdvancedCommand
from .options import POSITIVE, SEED_RANGE, choice_of, engine_options, parse_layers, taken, taken_engine
from .printing import chosen_store, echo, suggest


def _size(text: str) -> int:
    """Parse a size such as 4GB."""
    number = text.strip().upper().removesuffix("B").removesuffix("I")
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}.get(number[-1:], 1)
    try:
        size = int(float(number.rstrip("KMGT")) * factor)
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise click.BadParameter(f"{text!r} is not a size such as 4GB or 512MB")
    return size


@click.command(cls=AdvancedCommand)
@click.argument("model", type=stored.MODEL_OR_PATH)
@click.option(
    "--corpus", "corpora", type=stored.CORPUS, required=True, multiple=True, help="Corpus of the store.  [repeatable]"
)
@click.option("--revision", "names", multiple=True, help="Branch, tag, commit or subfolder.  [repeatable]")
@click.option("--revisions", "patterns", multiple=True, metavar="PATTERN",
              help="A series: all subfolders, or branches and tags, named like 'step*'.  [repeatable]")  # fmt: skip
@click.option(
    "--steps", "steps_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Training steps of a series: CSV with columns revision,step or a JSON object.  [default: as named]",
)  # fmt: skip
@click.option("--random-init", "seeds", type=SEED_RANGE, multiple=True, help="Seed to initialise with.  [repeatable]")
@click.option("--name", help="Name to store the model under.  [default: MODEL, of a path the last part]")
@click.option("--tokenizer", help="Hub id or folder of another tokenizer.  [default: the checkpoint's own]")
@click.option("--layers", type=parse_layers, metavar="LAYERS", help="Layers to measure, such as 0,3-5.  [default: all]")
@click.option("--site", type=choice_of(Site), default="activation")
@click.option("--pooling", type=choice_of(Pooling), default="max")
@click.option(
    "--special-tokens", type=choice_of(SpecialTokens), default="drop",
    help="Whether tokens that the tokenizer puts around a text are pooled where it is an instance as a whole.",
)  # fmt: skip
@click.option("--halves", type=choice_of(Halves), default="text",
              help="Halves a and b share no text, or no word: the characters of a span, in any text.")  # fmt: skip
@click.option("--min-instances", type=click.IntRange(min=0), default=0, metavar="N",
              help="Leave out functions with fewer than N positives or negatives in a half.")  # fmt: skip
@click.option(
    "--router", type=choice_of(Router), default="routed",
    help="Experts to read: those the router chose for a token, 0 elsewhere; or every expert on every token.",
)  # fmt: skip
@click.option("--dtype", type=choice_of(DType), default="float32", help="Type of weights and forward pass.")
@click.option(
    "--storage", type=choice_of(Storage), default="float32", help="Type of pooled activations until they are scored."
)
@click.option("--max-tokens", type=click.IntRange(min=3), default=512, help="Cut longer texts.")
@click.option("--top", "n_top", type=click.IntRange(min=0), default=10, help="Top instances kept for each neuron.")
@click.option("--coactivation", is_flag=True, help="Also store which neurons are active together; may be added later.")
@click.option("--partners", "n_partners", type=POSITIVE, help="Closest partners kept for each neuron.  [default: 32]")
@click.option(
    "--active-share", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
    help="Instances on which a neuron is active: this share, its highest.  [default: those above 0]",
)  # fmt: skip
@click.option(
    "--controls", is_flag=True,
    help="Also score control functions: labels permuted while texts or words keep theirs together; may be added later.",
)  # fmt: skip
@click.option(
    "--control", "tasks", type=choice_of(ControlTask), multiple=True,
    help="What keeps its labels together.  [repeatable; default: the strictest that the corpus allows]",
)  # fmt: skip
@click.option("--draws", "n_draws", type=POSITIVE, help="Permutations of each control.  [default: 1]")
@click.option(
    "--highlights", is_flag=True,
    help="Also store on which tokens of their top texts the top neurons fire; may be added later.",
)  # fmt: skip
@click.option(
    "--vocabulary", is_flag=True,
    help="Also store which tokens of the vocabulary each neuron's weights write and read; may be added later.",
)  # fmt: skip
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, split (all GPUs).")
@click.option("--batch-tokens", type=POSITIVE, help="Tokens of one batch, padding included.")
@click.option("--memory", "memory_bytes", type=_size, metavar="SIZE", default="4GB", help="For activations.")
@click.option("--shard", metavar="I/N", help="Measure share I of N of checkpoints and corpora, as in a Slurm array.")
@engine_options
@click.option("--dry-run", is_flag=True, help="Say what would be written and how long it would take; write nothing.")
def ingest(model: str, corpora: tuple[str, ...], name: str | None, **options: Any) -> None:  # noqa: ANN401
    """Measure every feed-forward neuron of MODEL on a corpus, or on several.

    MODEL is a hub id, a folder or a .gguf file. Where one of several revisions fails, the others are measured all the
    same; what the store holds is not loaded again. Machines that share the store's folder share the work by --engine
    ray or --shard.
    """
    from .. import Checkpoint, SerialEngine, ingest_checkpoints, ingest_model, ingest_series
    from ..ingest.jobs.reports import Failure, Outcome
    from ..ingest.jobs.settings import Coactivation, Controls, Resources, Settings
    from ..ingest.models.steps import read_steps

    names, seeds, patterns, steps_file = map(options.pop, ("names", "seeds", "patterns", "steps_file"))
    coactivation, controls = options.pop("coactivation"), options.pop("controls")
    if not coactivation and (options["n_partners"] or options["active_share"]):
        raise click.UsageError("--partners and --active-share are of the counts that --coactivation stores")
    if not controls and (options["tasks"] or options["n_draws"]):
        raise click.UsageError("--control and --draws are of the control functions that --controls scores")
    is_series = bool(patterns) or steps_file is not None
    if is_series and (names or seeds):
        raise click.UsageError("--revisions and --steps choose revisions; they take no --revision or --random-init")

    def show(outcome: Outcome) -> None:
        echo(outcome.describe(), err=isinstance(outcome, Failure))

    engine, shard = taken_engine(options), options.pop("shard")
    options |= {"settings": taken(Settings, options), "resources": taken(Resources, options), "store": chosen_store()}
    counts, tasks = taken(Coactivation, options), taken(Controls, options)
    options |= {"coactivation": counts if coactivation else None, "controls": tasks if controls else None}
    options["additions"] = [addition for addition in get_args(Addition) if options.pop(addition)]
    checkpoints = [Checkpoint(model, revision, name=name) for revision in names]
    checkpoints += [Checkpoint(model, random_init=seed, name=name) for seed in seeds]
    checkpoints = checkpoints or [Checkpoint(model, name=name)]
    many = {"corpus": corpora, "engine": engine, "shard": shard, "progress": show_progress, "tell": show}
    if is_series:
        steps = None if steps_file is None else read_steps(steps_file)
        options |= {"revisions": patterns or None, "steps": steps, "name": name}
        report = ingest_series(model, **options, **many)
    elif len(checkpoints) * len(corpora) > 1 or shard is not None or not isinstance(engine, SerialEngine):
        report = ingest_checkpoints(checkpoints, **options, **many)
    else:
        (only,) = checkpoints
        options |= {"corpus": corpora[0], "revision": only.revision, "random_init": only.random_init, "name": name}
        with show_progress(has_bar=not options["dry_run"]) as progress:
            show(made := ingest_model(model, **options, progress=progress))
        if not options["dry_run"]:
            suggest(f"sql \"from specialization where run_id = '{made.run_id}' order by lift desc limit 10\"")
        return
    if report.plans:
        echo(report.describe())
    if report.failures:
        raise click.ClickException(report.describe())
    if not options["dry_run"]:
        suggest("status")
