"""The command line: each command parses, calls one function, prints.

Results go to standard output, progress and notes to standard error. Exit status 0, 1 with one line for an
expected failure, 2 for wrong usage. Commands import what they need, so that ``--help`` and ``sql`` are quick.
"""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import NeuronlakeError

if TYPE_CHECKING:
    from .ingest.corpora.instance import Source
    from .queries.database import Database
    from .queries.output import Format
    from .queries.result import Result

__all__ = ["main"]

FORMATS = ("table", "csv", "json", "parquet")
Command = Callable[..., Any]


class _Group(click.Group):
    """Turns the package's errors into one line and exit status 1."""

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        try:
            return super().invoke(context)
        except NeuronlakeError as error:
            raise click.ClickException(str(error)) from error


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


def _layers(text: str) -> tuple[int, ...]:
    """Parse a list of layers such as 0,3-5."""
    layers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            some = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            some = range(0)
        if not 0 < len(some) <= 10_000:
            raise click.BadParameter(f"{text!r} is not a list of layers such as 0,3-5")
        layers.extend(some)
    return tuple(layers)


def _store_option(command: Command) -> Command:
    """Take ``--store`` before or after the command's name."""

    def remember(context: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            if not value:
                raise click.BadParameter("the name of a folder is empty")
            context.find_root().obj = Path(value)

    return click.option(
        "--store",
        metavar="DIR",
        callback=remember,
        expose_value=False,
        help="The store's folder.  [env: NEURONLAKE_STORE; default: ./neuronlake-store]",
    )(command)


def _store() -> Path:
    chosen = click.get_current_context().find_root().obj
    return chosen if chosen is not None else Path(os.environ.get("NEURONLAKE_STORE") or "neuronlake-store")


def _rows_options(command: Command) -> Command:
    """Add the options of a command that prints rows."""
    for option in (
        click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to FILE instead."),
        click.option(
            "--format",
            "format_",
            type=click.Choice(FORMATS),
            help="How to write rows.  [default: table; with -o, the file's suffix]",
        ),
    ):
        command = option(command)
    return command


def _database() -> "Database":
    from .queries.database import Database

    return Database(_store())


def _print_rows(result: "Result", format_: "Format | None", output: Path | None) -> None:
    from .queries.output import save, write

    if output is None:
        write(result, sys.stdout, format=format_ or "table")
    else:
        save(result, output, format=format_)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="neuronlake")
@_store_option
def main() -> None:
    """Ask what the neurons of transformers respond to: measure models, query with SQL."""


@main.command()
@_store_option
def demo() -> None:
    """Measure a small pretrained model and print findings.

    Three families of functions, on the pretrained weights and on a random initialisation of the same architecture.
    """
    from .demo.findings import find
    from .demo.printing import print_findings
    from .demo.run import run_demo
    from .ingest.progress import show_progress

    with show_progress() as progress:
        run = run_demo(_store(), progress)
    print_findings(run, find(_database(), run), store=_store())


@main.group()
def corpus() -> None:
    """Labelled corpora: add a file, build one from a known format, look."""


@corpus.command("add")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--name", required=True, help="Name of the corpus in the store.")
@click.option("--description", help="What it is.")
@click.option("--licence", help="Its licence.")
@_store_option
def corpus_add(file: str, name: str, description: str | None, licence: str | None) -> None:
    """Add a JSONL, CSV or Parquet FILE of labelled texts.

    One instance a row: text; optionally id, start, end, target, group; and labels.

    Labels are a list of "family/function" names, a mapping of them to true or false, or one boolean column each.
    """
    from .ingest.corpora.tabular import read_table

    _build(read_table(file, description=description, licence=licence), name)


@corpus.group("build")
def corpus_build() -> None:
    """Build a corpus from a known format."""


def _add_reader(reader: str, summary: str, *options: Command, path: click.ParamType[Any] | None = None) -> None:
    """Make a command of ``corpus build`` out of a reader: ``read_x`` of the module ``ingest/corpora/x.py``."""

    def command(corpus_name: str, **arguments: object) -> None:
        module = importlib.import_module(f".ingest.corpora.{reader}", __package__)
        _build(getattr(module, f"read_{reader}")(**arguments), corpus_name)

    every: list[Command] = [
        click.option("--name", "corpus_name", required=True, help="Name of the corpus."),
        *options,
        _store_option,
    ]
    if path is not None:
        every.insert(0, click.argument("path", type=path))
    decorated: Command = command
    for option in reversed(every):
        decorated = option(decorated)
    corpus_build.command(reader, help=summary)(decorated)


_SEED_RANGE = click.IntRange(0, 2**63 - 1)
_CAP = click.option("--cap", type=click.IntRange(min=1), help="Most texts or facts of each function, drawn at random.")
_SEED = click.option("--seed", type=_SEED_RANGE, default=0, show_default=True, help="Seed of what is chosen at random.")
_FAMILY = click.option("--family", default="task", show_default=True, help="Family of the functions.")
_DESCRIPTION = click.option("--description", help="What it is.")
_LICENCE = click.option("--licence", help="Its licence.")
_SENSES = click.Choice(["supersenses", "word-senses"])
_EXISTING = click.Path(exists=True)

_add_reader(
    "semcor",
    "SemCor 3.0 tagfiles (semantic).\n\nSupersenses of tagged words, or pairs of senses of a word.",
    click.option("--labels", type=_SENSES, default="supersenses", show_default=True),
    click.option("--min-per-sense", type=click.IntRange(min=1), default=20, show_default=True, help="For word-senses."),
    path=_EXISTING,
)
_add_reader(
    "trex",
    "T-REx in LAMA's form (knowledge).\n\nTrue facts against the same subject with another object of the relation.",
    _CAP,
    _SEED,
    path=_EXISTING,
)
_add_reader(
    "conllu",
    "CoNLL-U treebanks (grammar).\n\nPart of speech and relation of each word.",
    click.option("--min-count", type=click.IntRange(min=1), default=20, show_default=True, help="Skip rarer labels."),
    _LICENCE,
    path=_EXISTING,
)
_add_reader(
    "folders",
    "A folder with one subfolder of text files a label.\n\nEach label against the rest.",
    click.option("--max-chars", type=click.IntRange(min=1), help="Cut each text at a word boundary."),
    _FAMILY,
    _CAP,
    _SEED,
    _DESCRIPTION,
    _LICENCE,
    path=_EXISTING,
)
_add_reader(
    "countries",
    "Facts about countries (knowledge).\n\nFrom the countryinfo package: true ones against corrupted ones.",
    _CAP,
    _SEED,
)
_add_reader(
    "huggingface",
    "A Hugging Face dataset, local or from the hub.\n\nEach class against the rest, or chosen pairs of classes.",
    click.option("--template", default="{text}", show_default=True, help="Text of a row, from its columns."),
    click.option("--label-column", default="label", show_default=True, help="Column of classes."),
    click.option("--split", default="train", show_default=True, help="Split of the dataset."),
    click.option("--config", help="Configuration of the dataset."),
    click.option("--revision", help="Revision on the hub."),
    click.option("--pair", "pairs", multiple=True, metavar="A-B", help="One class against one other.  [repeatable]"),
    click.option("--task", help="Prefix of the functions' names."),
    _FAMILY,
    _CAP,
    _SEED,
    _DESCRIPTION,
    _LICENCE,
    path=click.STRING,
)


@corpus.command("list")
@_rows_options
@_store_option
def corpus_list(format_: "Format | None", output: Path | None) -> None:
    """List the corpora of the store."""
    query = "select corpus, description, n_texts, n_instances, licence, source from corpora order by corpus"
    _print_rows(_database().sql(query), format_, output)


@corpus.command("show")
@click.argument("name")
@_rows_options
@_store_option
def corpus_show(name: str, format_: "Format | None", output: Path | None) -> None:
    """Show the functions of a corpus, and what reading it left out."""
    from .errors import UnknownNameError

    database = _database()
    found = list(database.sql("select * from corpora where corpus = $name", {"name": name}))
    if not found:
        known = [str(row["corpus"]) for row in database.sql("select corpus from corpora")]
        raise UnknownNameError("corpus", name, known, where=_store())
    for key, value in found[0].items():
        click.echo(f"{key}: {'unknown' if value is None else value}", err=True)
    query = "select * exclude (corpus) from functions where corpus = $name order by family, function"
    _print_rows(database.sql(query, {"name": name}), format_, output)


@main.command()
@click.argument("model")
@click.option("--corpus", "corpus_name", required=True, help="Corpus of the store to measure on.")
@click.option("--revision", "revisions", multiple=True, help="Branch, tag, commit or subfolder.  [repeatable]")
@click.option("--random-init", "seeds", type=_SEED_RANGE, multiple=True, help="Seed to initialise with.  [repeatable]")
@click.option("--name", help="Name to store the model under.  [default: MODEL, of a path the last part]")
@click.option("--layers", type=_layers, metavar="LAYERS", help="Layers to measure, such as 0,3-5.  [default: all]")
@click.option(
    "--site", type=click.Choice(["activation", "gate", "preactivation"]), default="activation", show_default=True
)
@click.option("--pooling", type=click.Choice(["max", "mean", "abs_max", "last"]), default="max", show_default=True)
@click.option(
    "--router", type=click.Choice(["routed", "blind"]), default="routed", show_default=True,
    help="Of experts: those the router chooses, 0 elsewhere; or all on every token.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True,
    help="Type of weights and forward pass.",
)  # fmt: skip
@click.option(
    "--storage", type=click.Choice(["float32", "float16"]), default="float32", show_default=True,
    help="Type of pooled activations until they are scored.",
)  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(min=3), default=512, show_default=True, help="Cut longer texts.")
@click.option(
    "--top", "n_top", type=click.IntRange(min=0), default=10, show_default=True, help="Top instances of each neuron."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps, split (all GPUs).")
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Tokens of one batch, padding included.")
@click.option(
    "--memory", "memory_bytes", type=_size, metavar="SIZE", default="4GB", show_default=True, help="For activations."
)
@click.option("--dry-run", is_flag=True, help="Say what would be written and how long it would take; write nothing.")
@_store_option
def ingest(
    model: str,
    corpus_name: str,
    revisions: tuple[str, ...],
    seeds: tuple[int, ...],
    name: str | None,
    dry_run: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Measure every feed-forward neuron of MODEL on a corpus.

    MODEL is a hub id, a folder or a .gguf file.
    """
    from .ingest.job import ingest_model
    from .ingest.plan import plan_ingest
    from .ingest.progress import LineProgress, show_progress
    from .ingest.settings import Resources, Settings

    resources = Resources(**{key: options.pop(key) for key in ("device", "batch_tokens", "memory_bytes")})
    settings = Settings(**options)
    wanted: list[tuple[str | None, int | None]] = [(revision, None) for revision in revisions]
    wanted += [(None, seed) for seed in seeds]
    for revision, seed in wanted or [(None, None)]:
        arguments: dict[str, Any] = {
            "corpus": corpus_name,
            "store": _store(),
            "revision": revision,
            "random_init": seed,
            "name": name,
            "settings": settings,
            "resources": resources,
        }
        if dry_run:
            click.echo(plan_ingest(model, **arguments, progress=LineProgress()).describe())
        else:
            with show_progress() as progress:
                report = ingest_model(model, **arguments, progress=progress)
            click.echo(report.describe())


@main.command("sql")
@click.argument("query")
@_rows_options
@_store_option
def run_sql(query: str, format_: "Format | None", output: Path | None) -> None:
    """Run one SQL QUERY over the store.

    It can read files that it names too, and change nothing. '-' reads the query from standard input.
    """
    text = sys.stdin.read() if query == "-" else query
    _print_rows(_database().sql(text), format_, output)


@main.command()
@_store_option
def shell() -> None:
    """Ask SQL at a prompt with history and completion."""
    from .queries.shell import run_shell

    run_shell(_database())


@main.command()
@click.argument("name", required=False)
@_rows_options
@_store_option
def tables(name: str | None, format_: "Format | None", output: Path | None) -> None:
    """List the tables, or the columns of the table NAME."""
    database = _database()
    _print_rows(database.describe_columns(name) if name else database.describe_tables(), format_, output)


@main.command()
@click.argument("name", required=False)
@click.option("--sql", "as_sql", is_flag=True, help="Print a script that makes the same views in any DuckDB client.")
@_rows_options
@_store_option
def views(name: str | None, as_sql: bool, format_: "Format | None", output: Path | None) -> None:
    """List the views, or the columns of the view NAME."""
    if as_sql:
        from .queries.script import views_sql
        from .schema.store import Store

        if name or format_ or output:
            raise click.UsageError("--sql prints the script of all views; it takes no NAME, --format or -o")
        click.echo(views_sql(Store(_store())))
        return
    database = _database()
    _print_rows(database.describe_columns(name) if name else database.describe_views(), format_, output)


@main.command()
@click.argument("names", nargs=-1, metavar="[VIEW]...")
@_store_option
def materialize(names: tuple[str, ...]) -> None:
    """Keep the rows of views as Parquet, so that asking is quick.

    By default specialization. What is kept is used until the store changes, and may be deleted at any time.
    """
    from .queries.materialize import materialize as keep

    for each in keep(_database(), names or ("specialization",)):
        status = "kept" if each.is_new else "is current"
        click.echo(f"{each.view} {status}: {each.path.relative_to(_store().absolute())}, {each.size_bytes:,} bytes")


@main.command()
@_store_option
def check() -> None:
    """Check every committed file against its recorded size and digest."""
    from .schema.store import Store

    store = Store(_store())
    store.require()
    problems = store.check()
    for problem in problems:
        click.echo(f"{problem.path}: {problem.what}")
    n_files = sum(len(commit.files) for commit in store.commits())
    click.echo(f"{n_files} committed files, {len(problems)} problems", err=True)
    if problems:
        raise click.exceptions.Exit(1)


def _build(source: "Source", name: str) -> None:
    from .ingest.corpora.builder import build_corpus

    click.echo(build_corpus(source, name, store=_store()).describe())
