"""Labelled corpora in: ``neuronlake corpus``."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import (
    SEED_RANGE,
    Command,
    chosen_store,
    echo,
    open_database,
    print_rows,
    rows_options,
    store_option,
)

if TYPE_CHECKING:
    from ..ingest.corpora.instance import Source
    from ..schema.vocabulary import Format

__all__ = ["corpus"]


_DESCRIPTION = click.option("--description", help="What it is.")
_LICENCE = click.option("--licence", help="Its licence.")
_ENCODING = click.option(
    "--encoding", help="Encoding of the files.  [default: byte-order mark, else UTF-8, else cp1252]"
)


@click.group()
def corpus() -> None:
    """Labelled corpora: add a file, build one from a known format, shuffle labels, look."""


@corpus.command("add")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--name", required=True, help="Name of the corpus in the store.")
@_DESCRIPTION
@_LICENCE
@_ENCODING
@store_option
def corpus_add(file: str, name: str, description: str | None, licence: str | None, encoding: str | None) -> None:
    """Add a JSONL, CSV or Parquet FILE of labelled texts.

    One instance a row: text; optionally id, start, end, target, group; and labels.

    Labels are a list of "family/function" names, a mapping of them to true or false, or one boolean column each.
    """
    from ..ingest.corpora.tabular import read_table

    _build(read_table(file, description=description, licence=licence, encoding=encoding), name)


@corpus.group("build")
def corpus_build() -> None:
    """Build a corpus from a known format."""


def _add_reader(reader: str, summary: str, *options: Command, path: click.ParamType[Any] | None = None) -> None:
    """Make a command of ``corpus build`` out of a reader: ``read_x`` of the module ``ingest/corpora/x.py``."""

    def command(corpus_name: str, **arguments: object) -> None:
        module = importlib.import_module(f"..ingest.corpora.{reader}", __package__)
        _build(getattr(module, f"read_{reader}")(**arguments), corpus_name)

    every: list[Command] = [
        click.option("--name", "corpus_name", required=True, help="Name of the corpus."),
        *options,
        store_option,
    ]
    if path is not None:
        every.insert(0, click.argument("path", type=path))
    decorated: Command = command
    for option in reversed(every):
        decorated = option(decorated)
    corpus_build.command(reader, help=summary)(decorated)


_CAP = click.option("--cap", type=click.IntRange(min=1), help="Most texts or facts of each function, drawn at random.")
_SEED = click.option("--seed", type=SEED_RANGE, default=0, show_default=True, help="Seed of what is chosen at random.")
_FAMILY = click.option("--family", default="task", show_default=True, help="Family of the functions.")
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
    _ENCODING,
    path=_EXISTING,
)
_add_reader(
    "conllu",
    "CoNLL-U treebanks (grammar).\n\nPart of speech and relation of each word.",
    click.option("--min-count", type=click.IntRange(min=1), default=20, show_default=True, help="Skip rarer labels."),
    _LICENCE,
    _ENCODING,
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
    _ENCODING,
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


@corpus.command("shuffle")
@click.argument("original", metavar="NAME")
@click.option("--name", required=True, help="Name of the new corpus.")
@click.option("--seed", type=SEED_RANGE, default=0, show_default=True, help="Seed of the permutation.")
@store_option
def corpus_shuffle(original: str, name: str, seed: int) -> None:
    """Permute the labels of corpus NAME: the null of its measurements.

    The texts and the count of each label stay, so a run on the new corpus shows in every view what chance gives.
    """
    from ..ingest.corpora.shuffled import read_shuffled

    _build(read_shuffled(original, store=chosen_store(), seed=seed), name)


@corpus.command("list")
@rows_options
@store_option
def corpus_list(format_: "Format | None", output: Path | None) -> None:
    """List the corpora of the store."""
    query = "select corpus, description, n_texts, n_instances, licence, source from corpora order by corpus"
    print_rows(open_database().sql(query), format_, output)


@corpus.command("show")
@click.argument("name")
@rows_options
@store_option
def corpus_show(name: str, format_: "Format | None", output: Path | None) -> None:
    """Show the functions of a corpus, and what reading it left out."""
    from ..errors import UnknownNameError

    database = open_database()
    found = list(database.sql("select * from corpora where corpus = $name", {"name": name}))
    if not found:
        known = [str(row["corpus"]) for row in database.sql("select corpus from corpora")]
        raise UnknownNameError("corpus", name, known, where=chosen_store())
    for key, value in found[0].items():
        echo(f"{key}: {'unknown' if value is None else value}", err=True)
    query = "select * exclude (corpus) from functions where corpus = $name order by family, function"
    print_rows(database.sql(query, {"name": name}), format_, output)


def _build(source: "Source", name: str) -> None:
    from ..ingest.corpora.builder import build_corpus

    echo(build_corpus(source, name, store=chosen_store()).describe())
