"""Labelled corpora in: ``neuronlake corpus``."""

import contextlib
import importlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..errors import NeuronlakeError, check_known
from ..schema.vocabulary import Format, SemcorLabels, ShuffleUnit
from . import stored
from .groups import StoreGroup
from .options import POSITIVE, SEED_RANGE, Command, choice_of, rows_options
from .printing import chosen_store, echo, note, open_database, print_rows, suggest

if TYPE_CHECKING:
    from ..ingest.corpora.instance import Source

_NAME = click.option("--name", "corpus_name", required=True, help="Name of the corpus in the store.")
_DESCRIPTION = click.option("--description", help="What it is.")
_LICENCE = click.option("--licence", help="Its licence.")
_DETECTED = "byte-order mark, else UTF-8, else cp1252"
_ENCODING = click.option("--encoding", help=f"Encoding of the files.  [default: {_DETECTED}]")
_CAP = click.option("--cap", type=POSITIVE, help="Most texts, words or facts of each class, drawn at random.")
_SEED = click.option("--seed", type=SEED_RANGE, default=0, help="Seed of what is drawn at random.")
_FAMILY = click.option("--family", default="task", help="Family of the functions.")
_MIN_COUNT = click.option(
    "--min-count", type=POSITIVE, default=20, help="Skip labels rarer than this, as counted before --cap."
)
_MAX_CHARS = click.option("--max-chars", type=POSITIVE, help="Cut each text at a word boundary.")
_PATH = click.argument("path", type=click.Path(exists=True))


@click.group(cls=StoreGroup)
def corpus() -> None:
    """Labelled corpora: add a file, build one from a known format, shuffle labels, look."""


@corpus.group("build")
def corpus_build() -> None:
    """Build a corpus from a known format."""


def _build(source: "Source", name: str, **texts: str | None) -> None:
    from .. import build_corpus

    echo(build_corpus(source, name, store=chosen_store(), **texts).describe())
    model = "MODEL"
    with contextlib.suppress(NeuronlakeError):  # the corpus is there, whatever is wrong with a run
        for row in open_database().sql("select model from runs order by started_at desc limit 1"):
            model = shlex.quote(str(row["model"]))
    suggest(f"ingest {model} --corpus {shlex.quote(name)}")


def _add_reader(reader: str, summary: str, parameters: Sequence[Command]) -> None:
    """Make a command out of a reader, such as ``ingest.corpora.readers.facts.read_trex``, and of `build_corpus`."""
    module, _, function = reader.rpartition(".")

    def command(corpus_name: str, description: str | None, licence: str | None, **arguments: object) -> None:
        read = getattr(importlib.import_module(f"..{module}", __package__), function)
        _build(read(**arguments), corpus_name, description=description, licence=licence)

    decorated: Command = command
    for parameter in (_LICENCE, _DESCRIPTION, *reversed(parameters), _NAME):
        decorated = parameter(decorated)
    group, name = (corpus, "add") if function == "read_table" else (corpus_build, function.removeprefix("read_"))
    group.command(name, help=summary)(decorated)


_add_reader(
    "ingest.corpora.readers.table.read_table",
    "Add a JSONL, CSV or Parquet FILE of labelled texts.\n\n"
    "One instance a row: text; optionally id, start, end, target, group, lemma, stratum; and labels.\n\n"
    'Labels are a list of "family/function" names, a mapping of them to true or false, or one boolean column each.',
    [click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False)), _ENCODING],
)
_add_reader(
    "ingest.corpora.readers.semcor.read_semcor",
    "SemCor 3.0 tagfiles (semantic).\n\nSupersenses of tagged words, or pairs of senses of a word.",
    [
        _PATH,
        click.option("--labels", type=choice_of(SemcorLabels), default="supersenses"),
        click.option("--min-per-sense", type=POSITIVE, default=20, help="For word-senses."),
        *(_CAP, _SEED),
    ],
)
_add_reader(
    "ingest.corpora.readers.facts.read_trex",
    "T-REx in LAMA's form (knowledge).\n\nTrue facts against the same subject with another object of the relation.",
    [_PATH, _CAP, _SEED, _ENCODING],
)
_add_reader(
    "ingest.corpora.readers.conllu.read_conllu",
    "CoNLL-U treebanks (grammar).\n\nPart of speech and relation of each word.",
    [_PATH, _MIN_COUNT, _CAP, _SEED, _ENCODING],
)
_add_reader(
    "ingest.corpora.readers.classes.read_folders",
    "A folder with one subfolder of text files a label.\n\nEach label against the rest.",
    [_PATH, _MAX_CHARS, _FAMILY, _CAP, _SEED, _ENCODING],
)
_add_reader(
    "demo.corpus.read_countries",
    "Facts about countries (knowledge).\n\nFrom the countryinfo package: true ones against corrupted ones.",
    [_CAP, _SEED],
)
_add_reader(
    "ingest.corpora.readers.classes.read_huggingface",
    "A Hugging Face dataset, local or from the hub.\n\nEach class against the rest, or chosen pairs of classes.",
    [
        click.argument("path"),
        click.option("--template", default="{text}", help="Text of a row, from its columns."),
        click.option("--label-column", default="label", help="Column of classes."),
        click.option("--split", default="train", help="Split of the dataset."),
        click.option("--config", help="Configuration of the dataset."),
        click.option("--revision", help="Revision on the hub."),
        click.option("--pair", "pairs", multiple=True, metavar="A-B", help="One class against another.  [repeatable]"),
        click.option("--task", help="Prefix of the functions' names."),
        *(_FAMILY, _CAP, _SEED),
    ],
)


@corpus.command("shuffle")
@click.argument("original", metavar="NAME", type=stored.CORPUS)
@click.option("--name", required=True, help="Name of the new corpus.")
@click.option("--by", type=choice_of(ShuffleUnit), default="instance", help="What keeps its labels together.")
@click.option("--within", type=click.Choice(["stratum"]), help="Keep labels in their stratum (part of speech).")
@click.option("--seed", type=SEED_RANGE, default=0, help="Seed of the permutation.")
def corpus_shuffle(original: str, name: str, by: ShuffleUnit, within: Literal["stratum"] | None, seed: int) -> None:
    """Permute the labels of corpus NAME: the null of its measurements.

    The texts and the count of each label stay, so a run on the new corpus shows in every view what chance gives.

    By word, each word has the labels of another of like frequency: a control task, for functions that go by words.
    """
    from .. import read_shuffled

    _build(read_shuffled(original, store=chosen_store(), by=by, within=within, seed=seed), name)


@corpus.command("list")
@rows_options
def corpus_list(format_: Format | None, output: Path | None) -> None:
    """List the corpora of the store."""
    print_rows(open_database().ask("corpus_list"), format_, output)


@corpus.command("show")
@click.argument("name", type=stored.CORPUS)
@rows_options
def corpus_show(name: str, format_: Format | None, output: Path | None) -> None:
    """Show the functions of a corpus, and what reading it excluded."""
    database = open_database()
    corpora = {str(row["corpus"]): row for row in database.sql("from corpora")}
    check_known("corpus", [name], corpora, where=database.store)
    for key, value in corpora[name].items():
        note(f"{key}: {'unknown' if value is None else value}")
    for row in database.ask("corpus_strata", corpus=name):
        if row["stratum"] is not None or row["n_lemmas"]:
            lemmas = f", {row['n_lemmas']:,} lemmas" if row["n_lemmas"] else ""
            note(f"stratum {row['stratum'] or 'none'}: {row['n']:,} instances{lemmas}")
    print_rows(database.ask("corpus_functions", corpus=name), format_, output)
