"""Sentences in which a noun has one of two senses, written for this package.

There are 16 nouns, with 16 sentences for either sense and the same surface form in all 32: a neuron that separates the
senses responds to the sense. The position of the noun and the length of the sentence are balanced between the senses,
and no other content word is in more than 4 sentences of a sense; the tests hold the file to that.
"""

import itertools
from pathlib import Path

from ..ingest.corpora.instance import Instance, Source

_FILE = "word_senses.tsv"


def read_word_senses() -> Source:
    """Return a source of the nouns in their sentences, in which every noun has a function, one sense against the other.

    The function is ``semantic/<noun>:<sense>-<other sense>``. Its positives have the sense that comes first in
    alphabetical order, and sentences with other nouns are not labelled for it.
    """
    rows = [line.split("\t") for line in Path(__file__).with_name(_FILE).read_text("utf-8").splitlines()[1:]]
    instances = []
    descriptions = {}
    for word, rows_of_word in itertools.groupby(rows, key=lambda row: row[0]):
        sentences = [(sense, sentence) for _, sense, sentence in rows_of_word]
        first, second = sorted({sense for sense, _ in sentences})
        label = f"semantic/{word}:{first}-{second}"
        descriptions[label] = f"{word} in the sense {first}, against the sense {second}"
        for number, (sense, sentence) in enumerate(sentences, start=1):
            start = sentence.index(word)  # its only occurrence
            is_first = {label: sense == first}
            instances.append(Instance(sentence, is_first, start, start + len(word), source_id=f"{word}/{number}"))
    return Source(
        instances=instances,
        description="original sentences in which a noun has one of two senses",
        licence="Apache-2.0",
        origin=f"word senses: {_FILE}",
        negatives="explicit",
        descriptions=descriptions,
    )
