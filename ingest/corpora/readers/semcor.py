"""SemCor 3.0: running text in which each content word carries its WordNet sense.

The distribution is a folder with ``brown1/tagfiles`` and ``brown2/tagfiles``, SGML-like files in Latin-1, one
token a line. Sentences are put together again as readable text, with the character span of each tagged word.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ....errors import IngestError
from ....schema.vocabulary import SemcorLabels
from ..files import lines, visible_files
from ..instance import Instance, Reading, Source, capped

LEXNAMES = tuple(Path(__file__).with_name("wordnet_lexnames.tsv").read_text(encoding="utf-8").split())
"""WordNet's lexicographer files (supersenses), in the order of their numbers: the second field of a sense key."""

# The first field of a sense key: its synset type. Adjective satellites (5) are adjectives.
_PARTS_OF_SPEECH = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
_PART_OF_SPEECH_NAMES = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}

# How tokens, which are those of the Penn Treebank, stand in readable text.
_NO_SPACE_BEFORE = frozenset([",", ".", ";", ":", "?", "!", ")", "]", "%", "''", "'", "/"])
_NO_SPACE_AFTER = frozenset(["(", "[", "``", "`", "$", "/"])
_CLITICS = frozenset(["n't", "'s", "'d", "'m", "'ll", "'re", "'ve"])
_QUOTES = {"``": '"', "''": '"', "`": "'"}

_Word = tuple[str, str]  # lemma and part of speech
_Sense = tuple[int, str]  # number within the word, and key


@dataclass(frozen=True, slots=True)
class _Tag:
    word: _Word
    sense: _Sense  # its number is 0 where WordNet 3.0 no longer has it
    supersense: str  # one of `LEXNAMES`
    is_name: bool  # which is tagged with the lemma of its class: person, location or group


def read_semcor(
    path: str | os.PathLike[str],
    *,
    labels: SemcorLabels = "supersenses",
    min_per_sense: int = 20,
    cap: int | None = None,
    seed: int = 0,
) -> Source:
    """Return a source with one instance for each tagged word of SemCor.

    Its lemma is that of its sense; a name has none, as SemCor tags it with a class of names. Its stratum is noun,
    proper noun, verb, adjective or adverb.

    Parameters
    ----------
    path
        The folder that holds ``brown1/tagfiles`` and the like.
    labels
        ``supersenses``: each tagged word has one of 45 supersenses (`LEXNAMES`), such as ``semantic/noun.animal``;
        all other tagged words are the function's negatives.

        ``word-senses``: one function for each word (lemma and part of speech) with two senses of at least
        `min_per_sense` occurrences, such as ``semantic/bank.n:1-2``: sense 1 (positive) against sense 2 (negative),
        by WordNet's numbers. The two are the word's most frequent senses, the lower numbers where frequencies are
        equal. Excluded are occurrences in further senses, senses without a number, and names, which SemCor tags with
        their class (person, location, group). The files are read twice.
    min_per_sense
        Fewest occurrences of a sense, for ``word-senses``.
    cap, seed
        Most words of each supersense or sense, drawn at random with this seed; None for all.

    Raises
    ------
    IngestError
        Here, if there is no tagfile below `path`; while reading, with file and line, if one is malformed.

    Examples
    --------
    >>> [instance.labels for instance in neuronlake.read_semcor("semcor3.0").instances]
    [{'semantic/noun.animal': True}]
    """
    path, reading = Path(path), Reading(encoding="latin-1")
    files = visible_files(path.parent if path.name == "tagfiles" else path, "**/tagfiles/*", reading)
    if not files:
        raise IngestError(f"{path}: no SemCor here: no folder named tagfiles with files in it, such as brown1/tagfiles")
    if min_per_sense < 1:
        raise IngestError(f"min_per_sense must be at least 1, not {min_per_sense}")
    descriptions: dict[str, str] = {}
    if labels == "word-senses":
        instances = _word_senses(files, reading, descriptions, min_per_sense=min_per_sense)
        meaning = "polysemous words in one of two senses"
    else:
        words = _tagged_words(files, reading)
        instances = (replace(word, labels={f"semantic/{tag.supersense}": True}) for word, tag in words)
        meaning = "the supersense of each tagged word"
    reason = "word beyond the cap of its sense"
    return Source(
        instances=capped(instances, cap, by=lambda word: str(word.labels), seed=seed, reading=reading, reason=reason),
        description=f"SemCor 3.0, {meaning}",
        licence="WordNet licence",
        origin=f"semcor: {path.name}",
        negatives="rest" if labels == "supersenses" else "explicit",
        descriptions=descriptions,
        reading=reading,
    )


def _word_senses(
    files: Sequence[Path], reading: Reading, descriptions: dict[str, str], *, min_per_sense: int
) -> Iterator[Instance]:
    frequencies: defaultdict[_Word, Counter[_Sense]] = defaultdict(Counter)
    for _, tag in _tagged_words(files, Reading(encoding=reading.encoding)):
        if tag.sense[0] and not tag.is_name:
            frequencies[tag.word][tag.sense] += 1
    labels: dict[_Word, dict[_Sense, dict[str, bool]]] = {}  # of the two senses to compare
    for word, counts in sorted(frequencies.items()):
        enough = sorted((-count, sense) for sense, count in counts.items() if count >= min_per_sense)
        if len(enough) < 2:
            continue
        first, second = sorted(sense for _, sense in enough[:2])
        lemma, part_of_speech = word
        label = f"semantic/{lemma}.{part_of_speech}:{first[0]}-{second[0]}"
        labels[word] = {first: {label: True}, second: {label: False}}
        senses = f"sense {first[0]} ({first[1]}) against sense {second[0]} ({second[1]})"
        descriptions[label] = f"{lemma}, {_PART_OF_SPEECH_NAMES[part_of_speech]}: {senses}"
    for instance, tag in _tagged_words(files, reading):
        if tag.is_name:
            reading.dropped["name tagged with its class"] += 1
        elif not tag.sense[0]:
            reading.dropped["sense that WordNet 3.0 no longer has"] += 1
        elif tag.word not in labels:
            reading.dropped["word without two senses of enough instances"] += 1
        elif tag.sense not in labels[tag.word]:
            reading.dropped["further sense of a word"] += 1
        else:
            yield replace(instance, labels=labels[tag.word][tag.sense])


def _tagged_words(files: Sequence[Path], reading: Reading) -> Iterator[tuple[Instance, _Tag]]:
    """Yield the tagged words of all tagfiles, as instances without labels, and their tags."""
    for file in files:
        snum = ""
        tokens: list[tuple[str, int, _Tag | None]] = []  # what is written, number of the word, sense
        n_words = 0
        for line in lines(file, reading):
            element, attributes, content = _parse(line, reading)
            if element == "s":
                snum, tokens, n_words = attributes.get("snum", "?"), [], 0
            elif element == "wf":
                n_words += 1
                tokens.append((content, n_words, _tag(attributes, reading)))
            elif element == "punc":
                tokens.append((content, n_words, None))
            elif element == "/s":
                sentence, spans = join([content for content, _, _ in tokens])
                for (start, end), (_, number, tag) in zip(spans, tokens, strict=True):
                    if tag:
                        lemma, part_of_speech = tag.word
                        word = Instance(sentence, {}, start, end, source_id=f"{file.name}:{snum}:{number}")
                        stratum = "proper " * tag.is_name + _PART_OF_SPEECH_NAMES[part_of_speech]
                        yield replace(word, lemma=None if tag.is_name else lemma, stratum=stratum), tag


def join(tokens: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return tokens, in which underscores stand for spaces, as readable text, and the character span of each."""
    text = previous = ""
    spans = []
    for token in tokens:
        starts = []
        for piece in list(filter(None, token.split("_"))) or [token]:
            is_attached = piece in _NO_SPACE_BEFORE or piece.lower() in _CLITICS or previous in _NO_SPACE_AFTER
            if text and not is_attached:
                text += " "
            starts.append(len(text))
            text += _QUOTES.get(piece, piece)
            previous = piece
        spans.append((starts[0], len(text)))
    return text, spans


def _parse(line: str, reading: Reading) -> tuple[str, dict[str, str], str]:
    """Return element, attributes and content of a line: one tag, with or without content and end tag."""
    line = line.strip()
    if not line:
        return "", {}, ""
    inside, closed, rest = line[1:].partition(">")
    if not line.startswith("<") or not closed:
        raise reading.error(f"not a line of a SemCor tagfile: {line[:60]!r}")
    element, _, attributes = inside.partition(" ")
    content, end_tag, _ = rest.rpartition(f"</{element}>")
    if element in ("wf", "punc") and not (end_tag and content):
        raise reading.error(f"<{element}> without content or end: {line[:60]!r}")
    pairs = (attribute.partition("=") for attribute in attributes.split())
    return element, {name: value for name, _, value in pairs}, content


def _tag(attributes: Mapping[str, str], reading: Reading) -> _Tag | None:
    """Return the sense that a word is tagged with, the first of several; None if there is none."""
    keys, numbers = attributes.get("lexsn", ""), attributes.get("wnsn", "")
    if not keys:
        reading.dropped["word without a sense"] += 1
        return None
    if ";" in keys:
        reading.dropped["word tagged with several senses, of which the first was taken"] += 1
    key, number = keys.split(";")[0], numbers.split(";")[0]
    fields = key.split(":")
    is_known = len(fields) >= 3 and fields[0] in _PARTS_OF_SPEECH and fields[1].isdecimal() and len(fields[1]) == 2
    if not is_known or int(fields[1]) >= len(LEXNAMES) or not number.isdecimal() or "lemma" not in attributes:
        raise reading.error(f"not a sense: lemma={attributes.get('lemma')} wnsn={numbers} lexsn={keys}")
    lemma = attributes["lemma"]
    return _Tag(
        word=(lemma, _PARTS_OF_SPEECH[fields[0]]),
        sense=(int(number), f"{lemma}%{key}"),
        supersense=LEXNAMES[int(fields[1])],
        is_name="pn" in attributes,
    )
