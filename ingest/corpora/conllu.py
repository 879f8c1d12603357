"""Treebanks in CoNLL-U: part of speech and syntactic relation of each word."""

import os
import re
import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import IngestError
from .files import lines, visible_files
from .instance import Instance, Reading, Source, capped

RARE = "label of a function with too few instances"
EMPTY_NODE = "empty node, which stands for no text"
NO_SPAN = "word of a contraction without characters of its own"
BEYOND_CAP = "word beyond the cap of its part of speech"
NOT_LOCATED = "word of a sentence whose text does not hold its words"

_SUFFIXES = (".conllu", ".conllu.gz")
# The id of a word or a contraction, and of an empty node.
_ID = re.compile(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?")
_EMPTY_ID = re.compile(r"[0-9]+\.[0-9]+")


_Word = tuple[str, str, list[str]]  # id, form and labels


@dataclass(frozen=True, slots=True)
class _Token:
    """What is written: a word, or a contraction of several."""

    form: str
    is_followed_by_space: bool
    last_id: int  # id of the last word of a contraction
    words: list[_Word] = field(default_factory=list)


@dataclass(slots=True)
class _Sentence:
    id: str = ""
    text: str | None = None
    tokens: list[_Token] = field(default_factory=list)


def read_conllu(
    path: str | os.PathLike[str],
    *,
    min_count: int = 20,
    cap: int | None = None,
    seed: int = 0,
    encoding: str | None = None,
) -> Source:
    """Return a source with one instance for each word of a treebank.

    A word is labelled with its universal part of speech, such as ``grammar/upos.NOUN``, and its universal relation to
    its head, without subtype, such as ``grammar/deprel.nsubj``; it is a negative of all other functions. The words of
    a contraction are instances if together they spell it (``do`` and ``n't``), and are excluded if they do not
    (French ``de`` and ``le`` for ``du``).

    Parameters
    ----------
    path
        A ``.conllu`` or ``.conllu.gz`` file, or a folder of such files.
    min_count
        Functions of fewer words are excluded; their words stay, as negatives of the others. Above 1, the files are
        read twice.
    cap, seed
        Most words of each class (the part of speech where it is frequent enough), drawn at random with this seed; None
        for all.
    encoding
        Encoding of the files; None to detect it (`read_text`).

    Raises
    ------
    IngestError
        Here, if there is no such file; while reading, with file and line, if one is not CoNLL-U.

    Examples
    --------
    >>> words = list(neuronlake.read_conllu("treebank.conllu").instances)
    >>> [word.text[word.start : word.end] for word in words]
    ['The', 'cat', 'sat']
    """
    path, reading = Path(path), Reading(encoding=encoding)
    files = [path]
    if not path.is_file():
        files = [file for file in visible_files(path, "*.conllu*", reading) if file.name.endswith(_SUFFIXES)]
    if not files:
        raise IngestError(f"{path}: neither a CoNLL-U file nor a folder of *.conllu files")
    words = _instances(files, reading, min_count=min_count)
    return Source(
        instances=capped(
            words, cap, by=lambda word: next(iter(word.labels), ""), seed=seed, reading=reading, reason=BEYOND_CAP
        ),
        description=f"part of speech and syntactic relation of each word of {path.stem}",
        licence=None,
        origin=f"conllu: {path.name}",
        negatives="rest",
        reading=reading,
    )


def _instances(files: Sequence[Path], reading: Reading, *, min_count: int) -> Iterator[Instance]:
    counts: Counter[str] = Counter()
    if min_count > 1:
        first_pass = Reading(encoding=reading.encoding)
        for sentence in _sentences(files, first_pass):
            for _, (_, _, labels), _ in _located(sentence, first_pass):
                counts.update(labels)
    for sentence in _sentences(files, reading):
        for text, (word_id, form, labels), start in _located(sentence, reading):
            frequent = [label for label in labels if min_count <= 1 or counts[label] >= min_count]
            reading.dropped[RARE] += len(labels) - len(frequent)
            source_id = f"{sentence.id}:{word_id}"
            yield Instance(text, dict.fromkeys(frequent, True), start, start + len(form), source_id=source_id)


def _located(sentence: _Sentence, reading: Reading) -> Iterator[tuple[str, _Word, int]]:
    """Yield the words that have characters of their own: the sentence's text, the word and its start in the text."""
    tokens, text = sentence.tokens, sentence.text
    if text is None:
        text = "".join(token.form + " " * token.is_followed_by_space for token in tokens).rstrip()
    starts = []
    end = 0
    for token in tokens:
        while text[end : end + 1].isspace():
            end += 1
        if not text.startswith(token.form, end):
            reading.add_defect(NOT_LOCATED, sum(len(token.words) for token in tokens))
            return
        starts.append(end)
        end += len(token.form)
    for token, start in zip(tokens, starts, strict=True):
        if "".join(form for _, form, _ in token.words) != token.form:
            reading.dropped[NO_SPAN] += len(token.words)
            continue
        for word in token.words:
            yield text, word, start
            start += len(word[1])


def _sentences(files: Sequence[Path], reading: Reading) -> Iterator[_Sentence]:
    for file in files:
        sentence = _Sentence()
        for line in lines(file, reading):
            if line.strip():
                _read_line(line.rstrip("\r\n"), sentence, reading)
            elif sentence.tokens:
                yield sentence
                sentence = _Sentence()
        if sentence.tokens:
            yield sentence


def _read_line(line: str, sentence: _Sentence, reading: Reading) -> None:
    """Add a comment or a token to the sentence."""
    if line.startswith("#"):
        name, _, value = line[1:].partition("=")
        if name.strip() == "text":
            sentence.text = value.strip()
        elif name.strip() == "sent_id":
            sentence.id = value.strip()
        return
    columns = line.split("\t")
    if len(columns) != 10:
        raise reading.error(f"{len(columns)} columns, CoNLL-U has 10, separated by tabs")
    word_id, form, part_of_speech, relation, notes = (columns[index] for index in (0, 1, 3, 7, 9))
    is_followed_by_space = "SpaceAfter=No" not in notes.split("|")
    if _EMPTY_ID.fullmatch(word_id):
        reading.dropped[EMPTY_NODE] += 1
        return
    ids = _ID.fullmatch(word_id)
    if not ids:
        raise reading.error(f"the id of a word is a number, 1-2 or 1.1, not {reprlib.repr(word_id)}")
    if ids[2]:
        sentence.tokens.append(_Token(form, is_followed_by_space, last_id=int(ids[2])))
        return
    labels = [f"grammar/upos.{part_of_speech}"] if part_of_speech.strip("_ ") else []
    labels += [f"grammar/deprel.{relation.split(':')[0]}"] if relation.strip("_ ") else []
    if not sentence.tokens or int(word_id) > sentence.tokens[-1].last_id:
        sentence.tokens.append(_Token(form, is_followed_by_space, last_id=0))
    sentence.tokens[-1].words.append((word_id, form, labels))
