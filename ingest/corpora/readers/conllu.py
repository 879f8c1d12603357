"""Treebanks in CoNLL-U: part of speech and syntactic relation of each word."""

import itertools
import os
import re
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ....errors import IngestError
from ..files import lines, visible_files
from ..instance import Instance, Reading, Source, capped

_SUFFIXES = (".conllu", ".conllu.gz")
# The id of a word or a contraction, and of an empty node.
_ID = re.compile(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?")
_EMPTY_ID = re.compile(r"[0-9]+\.[0-9]+")


@dataclass(frozen=True, slots=True)
class _Token:
    """What is written: a word, or a contraction of several."""

    form: str
    is_followed_by_space: bool
    last_id: int  # id of the last word of a contraction; 0 for a word
    words: list[Instance] = field(default_factory=list)  # texts are their forms, and source ids their ids


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
    (French ``de`` and ``le`` for ``du``). Lemma and stratum of an instance are the word's lemma and part of speech.

    Parameters
    ----------
    path
        A ``.conllu`` or ``.conllu.gz`` file, or a folder of such files.
    min_count
        Functions of fewer words are excluded, not their words. Above 1, the files are read twice.
    cap, seed
        Most words of each class (part of speech, if frequent enough), drawn at random with this seed; None for all.
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
    words, reason = _instances(files, reading, min_count=min_count), "word beyond the cap of its part of speech"
    words = capped(words, cap, by=lambda word: next(iter(word.labels), ""), seed=seed, reading=reading, reason=reason)
    description = f"part of speech and syntactic relation of each word of {path.stem}"
    origin = f"conllu: {path.name}"
    return Source(words, description, licence=None, origin=origin, negatives="rest", reading=reading)


def _instances(files: Sequence[Path], reading: Reading, *, min_count: int) -> Iterator[Instance]:
    counting = _words(files, Reading(encoding=reading.encoding)) if min_count > 1 else ()
    counts = Counter(label for word in counting for label in word.labels)
    for word in _words(files, reading):
        labels = {label: True for label in word.labels if min_count <= 1 or counts[label] >= min_count}
        reading.dropped["label of a function with too few instances"] += len(word.labels) - len(labels)
        yield replace(word, labels=labels)


def _words(files: Sequence[Path], reading: Reading) -> Iterator[Instance]:
    """Yield the words of all sentences that have characters of their own, with all their labels."""
    for file in files:
        comments: dict[str, str] = {}  # of a sentence, such as its text and its sent_id
        tokens: list[_Token] = []
        for line in itertools.chain(lines(file, reading), [""]):  # the last sentence may lack the blank line after it
            if line.strip():
                _read_line(line.rstrip("\r\n"), comments, tokens, reading)
            elif tokens:
                yield from _located(comments, tokens, reading)
                comments, tokens = {}, []


def _located(comments: Mapping[str, str], tokens: Sequence[_Token], reading: Reading) -> Iterator[Instance]:
    forms = (token.form + " " * token.is_followed_by_space for token in tokens)
    text = comments["text"] if "text" in comments else "".join(forms).rstrip()
    starts: list[int] = []
    end = 0
    for token in tokens:
        while text[end : end + 1].isspace():
            end += 1
        if not text.startswith(token.form, end):
            n_words = sum(len(token.words) for token in tokens)
            reading.add_defect("word of a sentence whose text does not hold its words", n_words)
            return
        starts.append(end)
        end += len(token.form)
    for token, start in zip(tokens, starts, strict=True):
        if "".join(word.text for word in token.words) != token.form:
            reading.dropped["word of a contraction without characters of its own"] += len(token.words)
            continue
        for word in token.words:
            source_id = f"{comments.get('sent_id', '')}:{word.source_id}"
            yield replace(word, text=text, start=start, end=start + len(word.text), source_id=source_id)
            start += len(word.text)


def _read_line(line: str, comments: dict[str, str], tokens: list[_Token], reading: Reading) -> None:
    """Add a comment or a token to those of the sentence."""
    if line.startswith("#"):
        name, _, value = line[1:].partition("=")
        comments[name.strip()] = value.strip()
        return
    columns = line.split("\t")
    if len(columns) != 10:
        raise reading.error(f"{len(columns)} columns, CoNLL-U has 10, separated by tabs")
    word_id, form, notes = columns[0], columns[1], columns[9]
    lemma, part_of_speech, relation = (columns[index].strip("_ ") and columns[index] for index in (2, 3, 7))
    if _EMPTY_ID.fullmatch(word_id):
        reading.dropped["empty node, which stands for no text"] += 1
        return
    ids = _ID.fullmatch(word_id)
    if not ids:
        raise reading.error(f"the id of a word is a number, 1-2 or 1.1, not {reprlib.repr(word_id)}")
    last_id = int(ids[2] or 0)
    if last_id or not tokens or int(word_id) > tokens[-1].last_id:
        tokens.append(_Token(form, "SpaceAfter=No" not in notes.split("|"), last_id))
    if not last_id:
        labels = {f"grammar/upos.{part_of_speech}": True} if part_of_speech else {}
        labels |= {f"grammar/deprel.{relation.split(':')[0]}": True} if relation else {}
        word = Instance(form, labels, source_id=word_id, lemma=lemma or None, stratum=part_of_speech or None)
        tokens[-1].words.append(word)
