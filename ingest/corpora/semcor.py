"""SemCor 3.0: running text in which each content word carries its WordNet sense.

The distribution is a folder with ``brown1/tagfiles`` and ``brown2/tagfiles``, SGML-like files in Latin-1, one
token a line. Sentences are put together again as readable text, with the character span of each tagged word.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import IngestError
from .detokenize import join
from .files import lines, visible_files
from .instance import Instance, Position, Source

__all__ = ["LEXNAMES", "SemcorLabels", "read_semcor"]

SemcorLabels = Literal["supersenses", "word-senses"]

# WordNet's lexicographer files, in the order of their numbers: the second field of a sense key.
LEXNAMES = (
    "adj.all",
    "adj.pert",
    "adv.all",
    "noun.Tops",
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.attribute",
    "noun.body",
    "noun.cognition",
    "noun.communication",
    "noun.event",
    "noun.feeling",
    "noun.food",
    "noun.group",
    "noun.location",
    "noun.motive",
    "noun.object",
    "noun.person",
    "noun.phenomenon",
    "noun.plant",
    "noun.possession",
    "noun.process",
    "noun.quantity",
    "noun.relation",
    "noun.shape",
    "noun.state",
    "noun.substance",
    "noun.time",
    "verb.body",
    "verb.change",
    "verb.cognition",
    "verb.communication",
    "verb.competition",
    "verb.consumption",
    "verb.contact",
    "verb.creation",
    "verb.emotion",
    "verb.motion",
    "verb.perception",
    "verb.possession",
    "verb.social",
    "verb.stative",
    "verb.weather",
    "adj.ppl",
)

# The first field of a sense key: its synset type. Adjective satellites (5) are adjectives.
_PARTS_OF_SPEECH = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
_PART_OF_SPEECH_NAMES = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}

SEVERAL_SENSES = "word tagged with several senses, of which the first was taken"
UNTAGGED = "word without a sense"
NAME = "name tagged with its class"
NO_NUMBER = "sense that WordNet 3.0 no longer has"
NO_PAIR = "word without two senses of enough instances"
FURTHER_SENSE = "further sense of a word"

_MEANINGS: Mapping[SemcorLabels, str] = {
    "supersenses": "the supersense of each tagged word",
    "word-senses": "polysemous words in one of two senses",
}

_Word = tuple[str, str]  # lemma and part of speech
_Sense = tuple[int, str]  # number within the word, and key


@dataclass(frozen=True, slots=True)
class _Tag:
    lemma: str
    sense_key: str
    sense_number: int
    is_name: bool

    @property
    def word(self) -> _Word:
        return self.lemma, _PARTS_OF_SPEECH[self.sense_key[0]]

    @property
    def sense(self) -> _Sense:
        return self.sense_number, f"{self.lemma}%{self.sense_key}"


@dataclass(frozen=True, slots=True)
class _Sentence:
    source_id: str
    text: str
    tags: Sequence[tuple[int, int, int, _Tag]]  # index of the word in the sentence, start, end, tag


def read_semcor(
    path: str | os.PathLike[str], *, labels: SemcorLabels = "supersenses", min_per_sense: int = 20
) -> Source:
    """Return SemCor, about to be read as a stream.

    Parameters
    ----------
    path
        The folder that holds ``brown1/tagfiles`` and the like.
    labels
        ``supersenses``: each tagged word is an instance and has one of the 45 supersenses (`LEXNAMES`), as
        ``semantic/noun.animal``; all other tagged words are its negatives.

        ``word-senses``: one function a polysemous word, as ``semantic/bank.n:1-2``: occurrences in WordNet's
        sense 1 (positive) against sense 2 (negative). Of a word (lemma and part of speech) the two most frequent
        senses are taken, if each has at least `min_per_sense` occurrences; of equally frequent ones, those of the
        lower number; the lower number of the two is the positive. Occurrences in further senses are left out, and
        so are names, which SemCor tags with their class (person, location, group), and senses without a number.
        The files are read twice.
    min_per_sense
        Fewest occurrences of a sense, for ``word-senses``.

    Raises
    ------
    IngestError
        Here, if there is no tagfile below `path`; while reading, with file and line, if one is not as it should be.
    """
    path = Path(path)
    dropped: Counter[str] = Counter()
    files = visible_files(path.parent if path.name == "tagfiles" else path, "**/tagfiles/*", dropped)
    if not files:
        raise IngestError(f"{path}: no SemCor here: no folder named tagfiles with files in it, such as brown1/tagfiles")
    if min_per_sense < 1:
        raise IngestError(f"min_per_sense must be at least 1, not {min_per_sense}")
    position = Position()
    descriptions: dict[str, str] = {}
    if labels == "supersenses":
        instances = _supersense_instances(files, position, dropped)
    else:
        instances = _word_sense_instances(files, position, dropped, descriptions, min_per_sense=min_per_sense)
    return Source(
        instances=instances,
        description=f"SemCor 3.0, {_MEANINGS[labels]}",
        licence="WordNet licence",
        origin=f"semcor: {path.name}",
        negatives="rest" if labels == "supersenses" else "explicit",
        dropped=dropped,
        descriptions=descriptions,
        position=position,
    )


def _supersense_instances(files: Sequence[Path], position: Position, dropped: Counter[str]) -> Iterator[Instance]:
    for sentence in _sentences(files, position, dropped):
        for index, start, end, tag in sentence.tags:
            label = f"semantic/{LEXNAMES[int(tag.sense_key[2:4])]}"
            yield Instance(sentence.text, {label: True}, start, end, source_id=f"{sentence.source_id}:{index}")


def _word_sense_instances(
    files: Sequence[Path],
    position: Position,
    dropped: Counter[str],
    descriptions: dict[str, str],
    *,
    min_per_sense: int,
) -> Iterator[Instance]:
    occurrences: defaultdict[_Word, Counter[_Sense]] = defaultdict(Counter)
    for sentence in _sentences(files, position, Counter()):
        for _, _, _, tag in sentence.tags:
            if tag.sense_number and not tag.is_name:
                occurrences[tag.word][tag.sense] += 1
    pairs = _sense_pairs(occurrences, min_per_sense=min_per_sense)
    for (lemma, part_of_speech), senses in pairs.items():
        (first, first_key), (second, second_key) = senses
        descriptions[_word_label((lemma, part_of_speech), senses)] = (
            f"{lemma}, {_PART_OF_SPEECH_NAMES[part_of_speech]}: sense {first} ({first_key}) "
            f"against sense {second} ({second_key})"
        )
    for sentence in _sentences(files, position, dropped):
        for index, start, end, tag in sentence.tags:
            reason = _reason_against(tag, pairs)
            if reason:
                dropped[reason] += 1
                continue
            senses = pairs[tag.word]
            labels = {_word_label(tag.word, senses): tag.sense == senses[0]}
            yield Instance(sentence.text, labels, start, end, source_id=f"{sentence.source_id}:{index}")


def _sense_pairs(
    occurrences: Mapping[_Word, Mapping[_Sense, int]], *, min_per_sense: int
) -> dict[_Word, tuple[_Sense, _Sense]]:
    """Return the two senses to tell apart of each word that has two of enough occurrences."""
    pairs = {}
    for word, counts in sorted(occurrences.items()):
        enough = [sense for sense, count in counts.items() if count >= min_per_sense]
        if len(enough) >= 2:
            enough.sort(key=lambda sense: (-counts[sense], sense))
            low, high = sorted(enough[:2])
            pairs[word] = (low, high)
    return pairs


def _reason_against(tag: _Tag, pairs: Mapping[_Word, tuple[_Sense, _Sense]]) -> str | None:
    """Return why an occurrence is not an instance of a word in two senses, None if it is."""
    if tag.is_name:
        return NAME
    if not tag.sense_number:
        return NO_NUMBER
    if tag.word not in pairs:
        return NO_PAIR
    return None if tag.sense in pairs[tag.word] else FURTHER_SENSE


def _word_label(word: _Word, senses: tuple[_Sense, _Sense]) -> str:
    lemma, part_of_speech = word
    return f"semantic/{lemma}.{part_of_speech}:{senses[0][0]}-{senses[1][0]}"


def _sentences(files: Sequence[Path], position: Position, dropped: Counter[str]) -> Iterator[_Sentence]:
    """Yield the sentences of all tagfiles; `position` stands at the last line of each."""
    for file in files:
        snum = ""
        tokens: list[tuple[str, _Tag | None]] = []
        n_words = 0
        word_indices: list[int] = []
        for line in lines(file, position, dropped, encoding="latin-1"):
            element, attributes, content = _parse(line, position)
            if element == "s":
                snum, tokens, n_words, word_indices = attributes.get("snum", "?"), [], 0, []
            elif element in ("wf", "punc"):
                n_words += element == "wf"
                word_indices.append(n_words)
                tag = _tag(attributes, position, dropped) if element == "wf" else None
                tokens.append((content, tag))
            elif element == "/s" and tokens:
                text, spans = join([content for content, _ in tokens])
                tags = [
                    (index, start, end, tag)
                    for index, (start, end), (_, tag) in zip(word_indices, spans, tokens, strict=True)
                    if tag
                ]
                yield _Sentence(f"{file.name}:{snum}", text, tags)


def _parse(line: str, position: Position) -> tuple[str, dict[str, str], str]:
    """Return element, attributes and content of a line: one tag, with or without content and end tag."""
    line = line.strip()
    if not line:
        return "", {}, ""
    inside, closed, rest = line[1:].partition(">")
    if not line.startswith("<") or not closed:
        raise IngestError(f"{position}: not a line of a SemCor tagfile: {line[:60]!r}")
    element, _, attributes = inside.partition(" ")
    content, end_tag, _ = rest.rpartition(f"</{element}>")
    if element in ("wf", "punc") and not (end_tag and content):
        raise IngestError(f"{position}: <{element}> without content or end: {line[:60]!r}")
    return element, dict(_attribute(each) for each in attributes.split()), content


def _attribute(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _tag(attributes: Mapping[str, str], position: Position, dropped: Counter[str]) -> _Tag | None:
    """Return the sense of a word, of several the first; None if it is not tagged with one."""
    keys, numbers = attributes.get("lexsn", ""), attributes.get("wnsn", "")
    if not keys:
        dropped[UNTAGGED] += 1
        return None
    if ";" in keys:
        dropped[SEVERAL_SENSES] += 1
    key, number = keys.split(";")[0], numbers.split(";")[0]
    fields = key.split(":")
    is_known = len(fields) >= 3 and fields[0] in _PARTS_OF_SPEECH and fields[1].isdecimal() and len(fields[1]) == 2
    if not is_known or int(fields[1]) >= len(LEXNAMES) or not number.isdecimal() or "lemma" not in attributes:
        raise IngestError(f"{position}: not a sense: lemma={attributes.get('lemma')} wnsn={numbers} lexsn={keys}")
    return _Tag(attributes["lemma"], key, int(number), is_name="pn" in attributes)
