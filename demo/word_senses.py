"""Sentences in which a noun has one of two senses, written for this package.

Each of 16 nouns has 16 sentences for either sense, with the same surface form in all 32: a neuron that separates the
senses responds to the sense. The position of the noun and the length of the sentence are balanced between the senses,
and no other content word is in more than 4 sentences of a sense; the tests hold the file to that.
"""

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Literal

from ..ingest.corpora.instance import Instance, Source

__all__ = ["read_word_senses"]

_FILE = "word_senses.tsv"


def read_word_senses(*, unit: Literal["sentence", "word"] = "sentence") -> Source:
    """Return the sentences as a labelled corpus, in which each noun has a function, one sense against the other.

    The function is ``semantic/<noun>:<sense>-<other sense>``. Its positives have the sense that comes first in
    alphabetical order, and sentences with other nouns are not labelled for it.

    Parameters
    ----------
    unit
        Whether an instance is the whole sentence, or the span of the noun in it.
    """
    senses: dict[str, list[tuple[str, str]]] = {}  # word to (sense, sentence)
    for line in resources.files(__name__.rpartition(".")[0]).joinpath(_FILE).read_text("utf-8").splitlines()[1:]:
        word, sense, sentence = line.split("\t")
        senses.setdefault(word, []).append((sense, sentence))
    pairs = {word: (min(rows)[0], max(rows)[0]) for word, rows in senses.items()}
    return Source(
        instances=_instances(senses, pairs, unit),
        description="original sentences in which a noun has one of two senses",
        licence="Apache-2.0",
        origin=f"word senses: {_FILE}",
        negatives="explicit",
        descriptions={
            _label(word, pair): f"{word} in the sense {pair[0]}, against the sense {pair[1]}"
            for word, pair in pairs.items()
        },
    )


def _instances(
    senses: Mapping[str, list[tuple[str, str]]],
    pairs: Mapping[str, tuple[str, str]],
    unit: Literal["sentence", "word"],
) -> Iterator[Instance]:
    for word, rows in senses.items():
        label = _label(word, pairs[word])
        for row, (sense, sentence) in enumerate(rows, start=1):
            start = end = None
            if unit == "word":
                start = sentence.index(word)  # its only occurrence
                end = start + len(word)
            yield Instance(
                text=sentence,
                labels={label: sense == pairs[word][0]},
                start=start,
                end=end,
                source_id=f"{word}/{row}",
            )


def _label(word: str, pair: tuple[str, str]) -> str:
    return f"semantic/{word}:{pair[0]}-{pair[1]}"
